"""When a run collects and when it learns, kept across a stop in the middle of either."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vmil.config.schema import Config


class Pace:
    """Frames collected and batches owed.

    A round is `training.frames_per_epoch` frames and `training.updates_per_epoch` batches, which are earned as its
    frames come in. Before the first there are `training.pretrain_updates` batches, for which no frames are needed, and
    at its beginning `training.seed_frames` of random actions, which earn none; the budget's last round is for learning.
    """

    def __init__(self, config: Config) -> None:
        self._training, self._collector = config.training, config.collector
        self.frames = 0  # environment frames collected so far
        self.goal = 0  # frames to have collected before the running round ends; 0: pre-training
        self.owed = config.training.pretrain_updates  # batches that the running round has yet to yield
        self.length = self.owed  # batches of the running round in all
        self.rounds = int(self.owed > 0)  # begun, pre-training among them
        self.size = 0  # frames of the running round; a resumed run may ask for another size from the next round on
        self.asked = 0  # frames that the rounds so far asked for; where episodes end early they collect more
        self.wave = 0  # episodes still to be played before learning goes on, of those that are played at once

    @property
    def epochs(self) -> int:
        """Rounds of the whole run, with pre-training: those begun, and the present configuration's for what is left."""
        left = max(0, self._training.frames - max(self.asked, self._seeds))
        return self.rounds + math.ceil(left / self._training.frames_per_epoch)

    @property
    def updates_left(self) -> int:
        """Batches until the run ends: those owed, and those of the rounds that are not begun."""
        return self.owed + (self.epochs - self.rounds) * self._training.updates_per_epoch

    @property
    def overdrawn(self) -> bool:
        """Whether a round beyond the budget was begun."""
        return self.asked - self._training.frames_per_epoch >= self._training.frames

    @property
    def spent(self) -> bool:
        """Whether nothing of the budget is left: its last round has ended."""
        return self.owed == 0 and self.rounds > 0 and self.asked >= self._training.frames

    @property
    def round_length(self) -> int:
        """Batches of the running round, or of the next one between two of them."""
        return self.length if self.owed > 0 else self._training.updates_per_epoch

    @property
    def missing(self) -> int:
        """Frames that the running round has yet to collect."""
        return max(0, self.goal - self.frames)

    @property
    def begun_at(self) -> int:
        """Frames when the running round began, any seeds included; 0 in pre-training."""
        return self.goal - self.size

    @property
    def earned(self) -> bool:
        """Whether the round's frames so far allow for one more of its batches.

        Not while a wave of episodes is unfinished, as after a stop: an uninterrupted run learns after the last of them.
        """
        with_it = self.length - self.owed + 1
        collected = self.size - self.missing
        enough = with_it * self.size <= collected * self.length
        return self.wave == 0 and (self.goal == 0 or enough)

    def begin_round(self) -> None:
        """Asks for the next round's frames and batches."""
        seeds = max(0, self._seeds - self.asked)
        self.size = self._training.frames_per_epoch
        self.length = self.owed = self._training.updates_per_epoch
        self.goal = self.frames + seeds + self.size
        self.rounds += 1
        self.asked += seeds + self.size

    @property
    def _seeds(self) -> int:
        """Frames before the first that earn batches."""
        return min(self._training.seed_frames, max(0, self._training.frames - self._training.frames_per_epoch))

    def begin_wave(self) -> None:
        """As many episodes as there are workers to play at once, or those that a stop has left unplayed."""
        self.wave = self.wave or self._collector.workers

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {
            "frames": self.frames,
            "goal": self.goal,
            "owed": self.owed,
            "wave": self.wave,
            "rounds": self.rounds,
            "asked": self.asked,
            "size": self.size,
            "length": self.length,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.frames, self.goal, self.owed = state["frames"], state["goal"], state["owed"]
        self.wave, self.rounds, self.asked = state["wave"], state["rounds"], state["asked"]
        self.size, self.length = state["size"], state["length"]
