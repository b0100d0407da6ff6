"""Whole episodes in a TorchRL buffer: where each one lies, who must leave, and which slices can be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.data import RoundRobinWriter


@dataclass(frozen=True)
class EpisodeSpan:
    """Where one episode lies in the storage: steps [start, start + length)."""

    episode: int
    start: int
    length: int
    terminated: bool = False  # by its last action, rather than cut off


class EpisodeWriter(RoundRobinWriter):
    """Writes each episode in one piece and evicts, whole, whatever lies there: the oldest."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[EpisodeSpan] = []  # from the oldest to the newest

    @property
    def cursor(self) -> int:
        """Where the next episode goes, if it fits before the end."""
        return int(self._cursor)

    @cursor.setter
    def cursor(self, step: int) -> None:
        self._cursor = step

    def extend(self, data: TensorDictBase) -> Tensor:
        """Writes one episode (time,) and returns its positions; ValueError if it is longer than the storage."""
        length, capacity = len(data), int(self._storage.max_size)
        if length > capacity:
            raise ValueError(f"an episode of {length} steps does not fit into a replay of {capacity}")
        if self.cursor + length > capacity:  # never wrapped around; what lies ahead of the cursor is the oldest
            self._evict(self.cursor, capacity)
            self.cursor = 0
        start = self.cursor
        self._evict(start, start + length)
        terminated = bool(data.get("terminated")[-1])
        self.spans.append(EpisodeSpan(int(data.get("episode")[0]), start, length, terminated))
        return super().extend(data.to(self._storage.device))  # only now: what was read above lies with the host

    def add(self, data: Any) -> int:
        raise TypeError("episodes are written whole: use extend")

    def clear(self) -> None:
        """Forgets every episode; the storage keeps its memory."""
        self.spans.clear()
        self.cursor = 0

    def _evict(self, start: int, stop: int) -> None:
        self.spans[:] = [old for old in self.spans if old.start >= stop or old.start + old.length <= start]


@dataclass(frozen=True)
class _Table:
    """Which draws lead to which episode: [begins[i], ends[i]) are episode i's; int64 (episodes,)."""

    key: tuple[object, ...]  # of what it was made
    begins: Tensor
    ends: Tensor
    total: int


def _tabulate(spans: list[EpisodeSpan], length: int, lead: int, ends: bool, key: tuple[object, ...]) -> _Table:
    """Raises ValueError if no episode is long enough."""
    room = torch.tensor(
        [max(0, span.length - length + 1 + lead + int(ends and span.terminated)) for span in spans],
        dtype=torch.int64,
    )
    if not room.any():
        longest = max((span.length for span in spans), default=0)
        raise ValueError(f"none of {len(spans)} episodes has {length} steps; the longest has {longest}")
    last = room.cumsum(0)
    return _Table(key, last - room, last, int(last[-1]))


class EpisodeSlices:
    """Draws slices inside one episode each, uniform over all first steps that leave room for one.

    TorchRL's SliceSampler draws the episode first, so that steps of short episodes come more often, and gathers every
    pixel of its slices to look for a done flag. Draws come from `generator`.
    """

    def __init__(self, spans: list[EpisodeSpan], generator: torch.Generator) -> None:
        self.spans = spans  # the writer's own list
        self._generator = generator
        self._table: _Table | None = None

    def draw(
        self, count: int, length: int, openings: float = 0.0, lead: int = 0, ends: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Which span each of `count` slices is of and where in its episode it begins, in [−lead, …): (count,) int64.

        length: steps of each slice. openings: the share of them that is moved to the first step of its episode: what
        every episode passes through, and where a beginner fails first, would else be seen as rarely as any other
        moment. lead, ends: a slice may begin that many steps before its episode, and the last action of one that was
        terminated counts as if a step followed: each of an episode's transitions, seen through stacked frames, then
        comes equally often.

        Raises ValueError if no episode is long enough.
        """
        table = self._tabulated(length, lead, ends)
        draws = torch.randint(table.total, (count,), generator=self._generator)
        rows = torch.searchsorted(table.ends, draws, right=True)
        opening = torch.rand(count, generator=self._generator) < openings
        return rows, torch.where(opening, 0, draws - table.begins[rows]) - lead

    def _tabulated(self, length: int, lead: int, ends: bool) -> _Table:
        """Made anew only when something has changed: with thousands of episodes it takes longer than the draw."""
        oldest_and_newest = (*self.spans[:1], *self.spans[-1:])  # one leaves at the front, one comes at the back
        key = (len(self.spans), oldest_and_newest, length, lead, ends)
        if self._table is None or self._table.key != key:
            self._table = _tabulate(self.spans, length, lead, ends, key)
        return self._table
