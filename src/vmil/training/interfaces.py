"""What the callbacks ask of the learner and of its data; any algorithm that answers can be trained by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, cast

import lightning
import numpy as np
from numpy.typing import NDArray

from vmil.data.collect import Policy
from vmil.evaluation.rollout import Rollout


class Learner(Protocol):
    """A LightningModule in manual optimisation.

    It may also have `open_loop_pictures(batch) -> (truth, model)`, each (T, B, H, W, 3) uint8, `reward_histogram()
    -> values of any shape or None`, and `evaluation_metrics(rollout) -> dict` for what else an evaluation shows.
    """

    def drain_metrics(self) -> dict[str, float]:
        """Means of its metrics since the last call."""

    def evaluation_policy(self) -> Policy:
        """A deterministic policy, its state fresh."""


class Data(Protocol):
    """A LightningDataModule that collects."""

    frames: int  # environment frames collected so far: the clock of everything public
    expert_return: float | None  # mean return of the demonstrations, if known

    def drain_metrics(self) -> dict[str, float]:
        """collect/*, time/*, replay/* since the last call."""

    def save_replay(self, directory: Path) -> None:
        """Writes what a checkpoint taken now will need from the replay and is not yet in `directory`."""


def learner_of(pl_module: lightning.LightningModule) -> Learner:
    """The module, as what the callbacks need."""
    return cast(Learner, pl_module)


def data_of(trainer: lightning.Trainer) -> Data:
    """The data module, as what the callbacks need."""
    return cast(Data, cast(Any, trainer).datamodule)


def answer(pl_module: lightning.LightningModule, question: str, *args: object) -> Any:
    """What an optional method of the learner says; None if it has no such method."""
    method = getattr(pl_module, question, None)
    return None if method is None else method(*args)


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` frames lies in (before, now]."""
    return now // every > before // every


Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8]]
__all__ = ["Data", "Learner", "Pictures", "Rollout", "answer", "crossed", "data_of", "learner_of"]
