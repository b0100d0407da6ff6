"""What the callbacks ask of the learner and of its data; any algorithm that answers can be trained by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import lightning

from vmil.data.demos import Demonstrations
from vmil.data.transition import Batch
from vmil.learner.module import ImitationModule


@runtime_checkable
class Data(Protocol):
    """A LightningDataModule that collects.

    For a stopped run to continue exactly, its dataset must know its length (else Lightning draws one batch ahead, which
    is lost), its loader must have a `generator` (else each pass draws a seed from the global one), and its state must
    hold how many batches of the round are still to come.
    """

    metrics: dict[str, float]  # collect/*, time/*, replay/* of the last round
    demos: Demonstrations
    on_collect: Callable[[int], None] | None  # called with the frames so far, after every agent step

    @property
    def frames(self) -> int:
        """Environment frames collected so far: the clock of everything public."""
        ...

    @property
    def updates_left(self) -> int:
        """Batches until the run ends."""
        ...

    def peek(self) -> Batch:
        """A batch as the next one will be made, which changes none of those to come."""
        ...

    def let_go(self) -> None:
        """Closes the environment that collects, until it is needed again."""
        ...

    def commit(self) -> None:
        """Called once the checkpoint that its state was taken for is published."""
        ...


def learner_of(pl_module: lightning.LightningModule) -> ImitationModule:
    """The module that is trained; TypeError if the callbacks could not ask it."""
    if not isinstance(pl_module, ImitationModule):
        raise TypeError(f"{type(pl_module).__name__} is no ImitationModule")
    return pl_module


def data_of(trainer: lightning.Trainer) -> Data:
    """The data module that it is trained on; TypeError if the callbacks could not ask it."""
    data = getattr(trainer, "datamodule", None)  # which Lightning's Trainer does not declare
    if not isinstance(data, Data):
        raise TypeError(f"{type(data).__name__} does not answer as Data")
    return data


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` frames lies in (before, now]."""
    return now // every > before // every
