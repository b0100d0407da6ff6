"""When a run collects and when it learns, kept across a stop in the middle of either."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vmil.config.schema import Config


class Pace:
    """Frames collected and batches owed.

    A round is `training.frames_per_epoch` frames and `training.updates_per_epoch` batches, which are earned as its
    frames come in. Before the first there are `training.pretrain_updates` batches, for which no frames are needed.
    """

    def __init__(self, config: Config) -> None:
        self._training, self._collector = config.training, config.collector
        self.frames = 0  # environment frames collected so far
        self.goal = 0  # frames to have collected before the running round ends; 0: pre-training
        self.owed = config.training.pretrain_updates  # batches that the running round has yet to yield
        self.wave = 0  # episodes still to be played before learning goes on, of those that are played at once

    @property
    def epochs(self) -> int:
        """Rounds of the whole run, with pre-training."""
        training = self._training
        return int(training.pretrain_updates > 0) + math.ceil(training.frames / training.frames_per_epoch)

    @property
    def round_length(self) -> int:
        """Batches of the running round, or of the next one between two of them."""
        pretraining = self.goal == 0 and self.owed > 0
        return self._training.pretrain_updates if pretraining else self._training.updates_per_epoch

    @property
    def missing(self) -> int:
        """Frames that the running round has yet to collect."""
        return max(0, self.goal - self.frames)

    @property
    def earned(self) -> bool:
        """Whether the round's frames so far allow for one more of its batches.

        Not while a wave of episodes is unfinished, as after a stop: a run that nothing stops learns after the last.
        """
        training = self._training
        with_it = training.updates_per_epoch - self.owed + 1
        collected = training.frames_per_epoch - self.missing
        enough = with_it * training.frames_per_epoch <= collected * training.updates_per_epoch
        return self.wave == 0 and (self.goal == 0 or enough)

    def begin_round(self) -> None:
        """Asks for the next round's frames and batches."""
        self.goal = self.frames + self._training.frames_per_epoch
        self.owed = self._training.updates_per_epoch

    def begin_wave(self) -> None:
        """As many episodes as there are workers to play at once, or what a stop has left of them."""
        self.wave = self.wave or self._collector.workers

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"frames": self.frames, "goal": self.goal, "owed": self.owed, "wave": self.wave}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.frames, self.goal, self.owed = state["frames"], state["goal"], state["owed"]
        self.wave = state.get("wave", 0)
