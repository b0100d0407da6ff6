"""Lightning's view of the data: each epoch collects whole episodes, then yields the updates' batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from vmil.config.learners import expert_columns, lead_in
from vmil.config.schema import Config
from vmil.data.collect import Collects, LearnerPolicy
from vmil.data.demos import load_demonstrations
from vmil.data.draws import make_draws
from vmil.data.footprint import estimate
from vmil.data.pace import Pace
from vmil.data.parallel import make_collector
from vmil.data.place import make_replay, replay_device
from vmil.data.ranks import ALONE, Rank, own_state, rank_seed, states_of_all
from vmil.data.round_collector import RoundCollector
from vmil.data.rounds import Rounds
from vmil.data.transition import Batch
from vmil.envs.factory import EnvInfo, env_info
from vmil.errors import UserError
from vmil.system.generators import stream_seed


class VMILDataModule(lightning.LightningDataModule):
    """Owns environment, collector, replay and demonstrations.

    Epoch 0 pre-trains on the demonstrations alone (if `training.pretrain_updates`); every other one collects
    `training.frames_per_epoch` frames with `policy` and yields `training.updates_per_epoch` batches, whose leading
    columns are the expert's: after each episode its share of them, so that the next one is played by a policy that has
    learnt from it. replay_dir: where checkpoints put the episodes; None: checkpoints hold no replay.
    `on_collect(frames)` is called after every agent step with the frames collected so far.

    rank: where several processes learn together, each has its own seed, replay and share of the demonstrations, and
    collects its part of a round; `frames` counts those of all.
    """

    def __init__(
        self,
        config: Config,
        policy: LearnerPolicy | None = None,
        replay_dir: Path | None = None,
        rank: Rank = ALONE,
    ) -> None:
        super().__init__()
        self.config, self.rank, self.seed = config, rank, rank_seed(config.seed, rank)
        self.replay_dir = replay_dir
        if replay_dir is not None and rank.index > 0:
            self.replay_dir = replay_dir.with_name(f"{replay_dir.name}_{rank.index}")
        self.info: EnvInfo = env_info(config.env)
        self.footprint = estimate(config, self.info)
        self.place = replay_device(config, self.footprint)  # where replay and demonstrations lie; None: with the host
        self.pace = Pace(config)
        self.metrics: dict[str, float] = {}  # of the last collection, and the mean time to sample
        self.on_collect: Callable[[int], None] | None = None
        self._policy = policy
        self._round_collector: RoundCollector | None = None
        self._pending: dict[str, Any] | None = None
        self._restored = False

    # ---- Lightning's hooks

    def setup(self, stage: str = "fit") -> None:
        """Opens the environment and loads the demonstrations; UserError if either is unavailable."""
        if self._round_collector is not None:
            return
        config, seed = self.config, self.seed
        drawn_by = stream_seed(seed, "demos")
        self.demos = load_demonstrations(config.env, config.demos, config.seed, drawn_by, self.rank, self.place)
        self.demos.check_length(config.training.batch_length, lead_in(config))
        if config.debug.use_ground_truth_reward:
            self.demos.check_rewards()
        self.replay = make_replay(
            config, self.info, stream_seed(seed, "replay"), self.replay_dir, self.place, self.footprint
        )
        self.draws = make_draws(config, self.demos.replay, self.replay)
        make = partial(make_collector, config, seed, stream_seed(seed, "random actions"))
        self._round_collector = RoundCollector(config, make, self._policy, self.replay, self.pace, self.rank)
        if self._pending is not None:
            self.load_state_dict(self._pending)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the running or next epoch.

        Without a length Lightning draws one batch ahead, which a stopped run would lose; and unless it asks for a new
        loader at each epoch, `Trainer(reload_dataloaders_every_n_epochs=1)`, it takes the first one's length for all.
        """
        # With a generator of its own, it does not draw from torch's global one at each epoch.
        return DataLoader(Rounds(self.pace, self.epoch), batch_size=None, num_workers=0, generator=torch.Generator())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """One asynchronous copy per tensor that does not lie there already."""
        return batch.to(device, non_blocking=True)

    def teardown(self, stage: str | None = None) -> None:
        """Closes the environment."""
        self.close()

    def on_exception(self, exception: BaseException) -> None:
        """Closes the environment: after an exception Lightning calls no teardown."""
        self.close()

    def close(self) -> None:
        """Closes the environment; may be called twice. A checkpoint can still be taken, but nothing collected."""
        if self._round_collector is not None:
            self._round_collector.collector.close()
            self.draws.close()
            self.replay.close()

    def let_go(self) -> None:
        """Closes the environment until the next episode is collected: another one may be opened meanwhile."""
        self.round_collector.let_go()

    # ---- the plan

    @property
    def frames(self) -> int:
        """Environment frames collected so far."""
        return self.pace.frames

    @property
    def updates_left(self) -> int:
        """Batches until the run ends."""
        return self.pace.updates_left

    @property
    def digest(self) -> str:
        """Which demonstrations the run imitates: SHA-256 (hex) of their files."""
        return self.demos.digest

    @property
    def num_experts(self) -> int:
        """Expert columns of a batch outside pre-training; none where the true reward leaves no use for an expert."""
        training, true_reward = self.config.training, self.config.debug.use_ground_truth_reward
        return expert_columns(training.batch_size, training.demo_fraction, true_reward)

    @property
    def round_collector(self) -> RoundCollector:
        """What plays the rounds' episodes, once set up."""
        if self._round_collector is None:
            raise RuntimeError("the data module is not set up")
        return self._round_collector

    @property
    def collector(self) -> Collects:
        """The collector, once set up."""
        return self.round_collector.collector

    def set_policy(self, policy: LearnerPolicy) -> None:
        """Whose actions are collected from now on."""
        self._policy = policy
        if self._round_collector is not None:
            self._round_collector.collector.policy = policy

    def epoch(self) -> Iterator[Batch]:
        """Finishes the epoch that a checkpoint interrupted, or else begins the next: collects, then yields batches.

        Batches still owed are part of the state, so that a run saved within an epoch neither collects nor trains twice.
        """
        pace = self.pace
        if pace.owed == 0:
            self.round_collector.begin_round()
            self.metrics = {}
        num_experts = self.num_experts if pace.goal > 0 else self.config.training.batch_size
        yielded, seconds = 0, 0.0
        while pace.owed > 0:
            while not self.round_collector.earned():
                self.metrics |= self.round_collector.play(self._on_frames)
            started = time.perf_counter()
            batch = self.draws.take(num_experts)
            seconds += time.perf_counter() - started
            yielded += 1
            self.metrics["time/sample"] = seconds / yielded
            pace.owed -= 1
            if pace.owed > 0 and self.round_collector.earned():  # an episode in between would change what is drawn
                self.draws.begin(num_experts)
            yield batch

    def _on_frames(self, frames: int) -> None:
        if self.trainer is not None and self.trainer.received_sigterm:
            raise SIGTERMException
        if self.on_collect is not None:
            self.on_collect(frames)

    def peek(self) -> Batch:
        """A batch like the next one, without changing any of those to come; of the expert alone at first."""
        return self.draws.peek(self.num_experts if self.replay.episodes else self.config.training.batch_size)

    # ---- checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Counters, random states and the replay's manifest; writes new episodes to `replay_dir` first.

        With several ranks it is that of all, and all must call it. UserError on all of them if one cannot write.
        """
        return self._own_state() if self.rank.count == 1 else states_of_all(self._own_state)

    def _own_state(self) -> dict[str, Any]:
        self.draws.discard()
        if self.replay_dir is not None:
            self.replay.save(self.replay_dir)
        return {
            **self.pace.state_dict(),
            "metrics": self.metrics,  # of the running epoch: a run stopped within it still has to report them
            "replay": self.replay.state_dict(),
            "demos": self.demos.state_dict(),
            **self.round_collector.state_dict(),
        }

    def commit(self) -> None:
        """The checkpoint that `state_dict` was called for is published: what only older ones need is deleted."""
        if self.replay_dir is not None:
            self.replay.commit(self.replay_dir)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues exactly; UserError if the replay's files or the demonstrations are not those of the checkpoint.

        Lightning's call changes nothing if the same state was restored before, and nothing has been done since.
        """
        if self._round_collector is None:
            self._pending = state_dict
            return
        if self._restored:
            self._restored = False
            return
        state_dict = own_state(state_dict, self.rank)
        if self.replay_dir is None:
            raise UserError("this checkpoint cannot be resumed without its replay directory")
        self.draws.discard()
        self.demos.load_state_dict(state_dict["demos"])
        self.replay.load(self.replay_dir, state_dict["replay"])
        self.pace.load_state_dict(state_dict)
        self.round_collector.load_state_dict(state_dict)
        self.metrics = dict(state_dict["metrics"])
        self._pending = None

    def restore(self, state_dict: dict[str, Any]) -> None:
        """`load_state_dict` ahead of Lightning's."""
        self.load_state_dict(state_dict)
        self._restored = True
