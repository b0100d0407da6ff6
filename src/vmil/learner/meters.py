"""Means of metrics and of stage times between two readings, kept without making a GPU wait."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor

Total: TypeAlias = Tensor | tuple[float, float]  # sum and count of a metric's finite readings; of tensors, (2,)


class Means:
    """Running means of detached scalars; the totals stay where the values are until `drain`.

    Readings that are not finite, as of a step that was left out, do not count; the mean of only such readings is nan.
    """

    def __init__(self) -> None:
        self._totals: dict[str, Total] = {}

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Takes in one reading of each metric."""
        for name, reading in _readings(values).items():
            self._totals[name] = _sum(self._totals[name], reading) if name in self._totals else reading

    def now(self) -> dict[str, Tensor | float]:
        """The means so far, where the values are."""
        return {
            name: total[0] / total[1] if isinstance(total, Tensor) else _ratio(*total)
            for name, total in self._totals.items()
        }

    def drain(self) -> dict[str, float]:
        """The means since the last call; empties the meter."""
        means = {name: _ratio(*_read(total)) for name, total in self._totals.items()}
        self._totals.clear()
        return means

    def state_dict(self) -> dict[str, tuple[float, int]]:
        """Sum and count of each metric, so that a run stopped within a round reports the whole round."""
        totals = {name: _read(total) for name, total in self._totals.items()}
        return {name: (amount, int(count)) for name, (amount, count) in totals.items()}

    def load_state_dict(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Goes on from there."""
        self._totals = {name: (amount, float(count)) for name, (amount, count) in state.items()}


def _readings(values: Mapping[str, Tensor | float]) -> dict[str, Total]:
    """Each value and a one if it is finite, else zeros; of all tensors at once, and without waiting for any."""
    found: dict[str, Total] = {}
    for name, value in values.items():
        if not isinstance(value, Tensor):
            found[name] = (value, 1.0) if math.isfinite(value) else (0.0, 0.0)
    tensors = {name: value.float() for name, value in values.items() if isinstance(value, Tensor)}
    if tensors:
        row = torch.stack(list(tensors.values()))
        pairs = torch.stack([row.nan_to_num(0.0, 0.0, 0.0), row.isfinite().float()], 1)
        found |= dict(zip(tensors, pairs.unbind(), strict=True))
    return found


def _sum(total: Total, reading: Total) -> Total:
    """Their sum; if one is a plain number, as after resuming, where the other's tensor is."""
    if isinstance(total, Tensor):
        return total + _like(total, reading)
    if isinstance(reading, Tensor):
        return _like(reading, total) + reading
    return total[0] + reading[0], total[1] + reading[1]


def _like(other: Tensor, total: Total) -> Tensor:
    return total if isinstance(total, Tensor) else torch.tensor(total, dtype=other.dtype, device=other.device)


def _read(total: Total) -> tuple[float, float]:
    """Waits for the device."""
    amount, count = total.tolist() if isinstance(total, Tensor) else total
    return amount, count


def _ratio(amount: float, count: float) -> float:
    return amount / count if count else math.nan


class Stopwatch:
    """Seconds spent in named stages; on CUDA measured by events, read only at `drain`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)
        self.events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def stage(self, name: str, device: torch.device) -> Iterator[None]:
        """Times what happens inside as `time/<name>`."""
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            yield  # in a graph that is being recorded nothing runs yet
            return
        self.counts[name] += 1
        if device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self.events.append((name, begin, end))
        else:
            started = time.perf_counter()
            yield
            self.seconds[name] += time.perf_counter() - started

    def drain(self) -> dict[str, float]:
        """Mean seconds of each stage since the last call, as `time/<name>`; empties the watch."""
        for name, begin, end in self.events:
            end.synchronize()
            self.seconds[name] += begin.elapsed_time(end) / 1000.0
        means = {f"time/{name}": total / self.counts[name] for name, total in self.seconds.items()}
        self.seconds.clear()
        self.counts.clear()
        self.events.clear()
        return means
