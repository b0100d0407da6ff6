"""The data module's epochs as the data set that Lightning's loop wants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch.utils.data import IterableDataset

from vmil.data.transition import Batch


class Plan(Protocol):
    """What `Rounds` needs from the data module."""

    @property
    def round_length(self) -> int:
        """Batches of the running or next epoch."""

    def epoch(self) -> Iterator[Batch]:
        """The batches of that epoch, one by one."""


class Rounds(IterableDataset[Batch]):
    """One pass is one epoch of the data module's plan; its length differs between pre-training and the rest."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def __len__(self) -> int:
        return self.plan.round_length

    def __iter__(self) -> Iterator[Batch]:
        yield from self.plan.epoch()
