"""What the callbacks ask of the learner and of its data; any algorithm that answers can be trained by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import lightning
import numpy as np

from vmil.data.collect import LearnerPolicy
from vmil.data.transition import Batch
from vmil.evaluation.rollout import Rollout
from vmil.learner.portable_evaluation import PortableEvaluation


class Learner(Protocol):
    """A LightningModule in manual optimisation."""

    def drain_metrics(self) -> dict[str, float]:
        """Means of its metrics since the last call."""
        ...

    def evaluation_policy(self) -> LearnerPolicy:
        """A deterministic policy, its state fresh."""
        ...

    def portable_evaluation(self) -> PortableEvaluation:
        """A copy of it that another process can be sent."""
        ...

    def evaluation_metrics(self, rollout: Rollout) -> dict[str, float]:
        """What else an evaluation by it shows, besides the score."""
        ...

    def reward_histogram(self) -> np.ndarray | None:
        """Rewards of the last update, of any shape; None: there are none."""
        ...

    def open_loop_pictures(self, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
        """Truth and the model's prediction, each (T, B, H, W, 3) uint8; None: it has no model."""
        ...


class Scored(Protocol):
    """Demonstrations, whose returns may be known."""

    mean_return: float | None  # what a normalised score of one means


class Data(Protocol):
    """A LightningDataModule that collects.

    For a stopped run to continue exactly, its dataset must know its length (else Lightning draws one batch ahead, which
    is lost), its loader must have a `generator` (else each pass draws a seed from the global one), and its state must
    hold how many batches of the round are still to come.
    """

    frames: int  # environment frames collected so far: the clock of everything public
    metrics: dict[str, float]  # collect/*, time/*, replay/* of the last round
    demos: Scored | None
    on_collect: Callable[[int], None] | None  # called with the frames so far, after every agent step

    def peek(self) -> Batch:
        """A batch as the next one will be made, which changes none of those to come."""
        ...

    def commit(self) -> None:
        """Called once the checkpoint that its state was taken for is published."""
        ...


def learner_of(pl_module: lightning.LightningModule) -> Learner:
    """The module, as what the callbacks need."""
    return cast(Learner, pl_module)


def data_of(trainer: lightning.Trainer) -> Data:
    """The data module, as what the callbacks need."""
    return cast(Data, cast(Any, trainer).datamodule)


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` frames lies in (before, now]."""
    return now // every > before // every
