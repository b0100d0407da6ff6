"""Baselines' updates may be recorded as well; DrQ's are of several kinds, as its actor does not learn in each."""

from __future__ import annotations

import pytest
import torch
from tape import TapeRecorder

from vmil.algorithms import make_learner
from vmil.config.load import load_config
from vmil.data.transition import Batch
from vmil.learner.graphs import WARM_UP
from vmil.learner.module import ImitationModule

B, A, SIZE = 6, 2, 20
SMALL = ("env=counting", "compute=debug", f"env.image_size={SIZE}", f"training.batch_size={B}")


def make(*overrides: str, proprio: int = 0) -> ImitationModule:
    torch.manual_seed(0)
    learner = make_learner(load_config([*SMALL, *overrides]), A, proprio)
    optimizers = learner.configure_optimizers()
    object.__setattr__(learner, "optimizers", lambda: optimizers)
    object.__setattr__(learner, "manual_backward", lambda loss: loss.backward())
    return learner


def make_batch(learner: ImitationModule, seed: int) -> Batch:
    training, generator = learner.config.training, torch.Generator().manual_seed(seed)
    length, true_reward = training.batch_length, learner.config.debug.use_ground_truth_reward
    return Batch(
        image=torch.randint(0, 256, (length, B, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator),
        proprio=None,
        action=torch.rand(length, B, A, generator=generator) * 2 - 1,
        is_first=torch.zeros(length, B, dtype=torch.bool),
        num_experts=round(B * training.demo_fraction),
        reward=torch.rand(length, B, generator=generator) if true_reward else None,
        terminated=torch.rand(length, B, generator=generator) < 0.2,
    )


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["algo=sqil_drq"], 2),
        (["algo=sqil_drq", "drq.actor_every=2", "drq.target_every=3"], 4),
        (["algo=sqil_drq", "debug.use_ground_truth_reward=true"], 2),
        (["algo=dac_drq"], 2),
        (["algo=bc"], 1),
    ],
    ids=str,
)
def test_recorded_updates_are_the_plain_ones(options: list[str], kinds: int) -> None:
    results, recorder = [], TapeRecorder()
    for recorded in (False, True):
        learner = make(*options)
        if recorded:
            learner.record_with(recorder)
        torch.manual_seed(1)
        for update in range(kinds * (WARM_UP + 2) + 7):
            learner.training_step(make_batch(learner, update), 0)
        metrics = {name: value for name, value in learner.drain_metrics().items() if not name.startswith("time/")}
        results.append((learner.state_dict(), metrics, learner.reward_sample))
    assert len(recorder.tapes) == kinds
    (plain, plain_metrics, plain_reward), (again, again_metrics, again_reward) = results
    torch.testing.assert_close(again_reward, plain_reward)  # of the last update, whichever kind it was
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-5)
    assert again_metrics == pytest.approx(plain_metrics, rel=1e-3, abs=1e-5)
