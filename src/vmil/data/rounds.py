"""The data module's epochs as the data set that Lightning's loop wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import IterableDataset

from vmil.data.pace import Pace
from vmil.data.transition import Batch


class Rounds(IterableDataset[Batch]):
    """One pass is one `epoch`, batch by batch; its length is the pace's, which differs in pre-training."""

    def __init__(self, pace: Pace, epoch: Callable[[], Iterator[Batch]]) -> None:
        super().__init__()
        self._pace, self._epoch = pace, epoch

    def __len__(self) -> int:
        return self._pace.round_length

    def __iter__(self) -> Iterator[Batch]:
        return self._epoch()
