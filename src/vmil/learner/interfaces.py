"""What the callbacks ask of the learner and of its data; any algorithm that answers can be trained by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import lightning

from vmil.data.collect import Policy
from vmil.learner.examination import Examination


class Learner(Protocol):
    """A LightningModule in manual optimisation.

    It may also have `open_loop_pictures(batch) -> (truth, model)`, each (T, B, H, W, 3) uint8; `reward_histogram() ->
    values of any shape, or None`; `evaluation_metrics(rollout) -> dict`, what else an evaluation shows.
    """

    def drain_metrics(self) -> dict[str, float]:
        """Means of its metrics since the last call."""
        ...

    def evaluation_policy(self) -> Policy:
        """A deterministic policy, its state fresh."""
        ...

    def examination(self) -> Examination:
        """A copy of it that another process can be sent."""
        ...


class Scored(Protocol):
    """Demonstrations, whose returns may be known."""

    mean_return: float | None  # what a normalised score of one means


class Data(Protocol):
    """A LightningDataModule that collects.

    For a stopped run to continue exactly, its dataset must know its length (else Lightning draws one batch ahead, which
    is lost), its loader must have a `generator` (else each pass draws a seed from the global one), and its state must
    hold how many batches of the round are still to come. It may have `peek() -> batch`, which draws one and changes
    none of those to come.
    """

    frames: int  # environment frames collected so far: the clock of everything public
    metrics: dict[str, float]  # collect/*, time/*, replay/* of the last round
    demos: Scored | None
    on_collect: Callable[[int], None] | None  # called with the frames so far, after every agent step


def learner_of(pl_module: lightning.LightningModule) -> Learner:
    """The module, as what the callbacks need."""
    return cast(Learner, pl_module)


def data_of(trainer: lightning.Trainer) -> Data:
    """The data module, as what the callbacks need."""
    return cast(Data, cast(Any, trainer).datamodule)


def answer(asked: object, question: str, *args: object) -> Any:
    """What an optional method of the learner or of its data says; None if it has no such method."""
    method = getattr(asked, question, None)
    return None if method is None else method(*args)


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` frames lies in (before, now]."""
    return now // every > before // every
