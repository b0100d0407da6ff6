"""Batches of two sources: demonstrations in the leading columns, the agent's replay in the others."""

from __future__ import annotations

from vmil.config.learners import lead_in, sees_stacks
from vmil.config.schema import Config
from vmil.data.replay import Replay
from vmil.data.transition import Batch, Window


def mixed_batch(config: Config, demos: Replay, replay: Replay, num_experts: int, pinned: bool) -> Batch:
    """`training.batch_size` sequences, `num_experts` of them demonstrations, made where both sources lie.

    pinned: with the host, in page-locked memory, from which a copy to a GPU does not keep the processor waiting.
    """
    training = config.training
    length, share, lead = training.batch_length, training.opening_share, lead_in(config)
    windows: list[Window] = []
    for source, count in ((demos, num_experts), (replay, training.batch_size - num_experts)):
        if count:
            windows += source.windows(count, length, share, lead, ends=sees_stacks(config))
    keys = ["image", "action", "is_first", "terminated"]
    keys += ["proprio"] if config.env.proprio else []
    keys += ["reward"] if config.debug.use_ground_truth_reward else []
    stacked = demos.stack(windows, length, keys, pinned)
    return Batch(
        image=stacked["image"],
        proprio=stacked.get("proprio"),
        action=stacked["action"],
        is_first=stacked["is_first"],
        terminated=stacked["terminated"],
        num_experts=num_experts,
        reward=stacked.get("reward"),
    )
