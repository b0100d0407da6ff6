"""Means of metrics and of stage times between two readings, kept without making a GPU wait."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Means:
    """Running means of detached scalars; the sums stay where the values are until `drain`."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor | float] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Takes in one reading of each metric."""
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] += 1

    def drain(self) -> dict[str, float]:
        """The means since the last call; empties the meter."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means

    def state_dict(self) -> dict[str, tuple[float, int]]:
        """Sum and count of each metric, so that a run stopped within a round reports the whole round."""
        return {name: (float(total), self.counts[name]) for name, total in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, tuple[float, int]]) -> None:
        """Goes on from there."""
        self.sums = {name: total for name, (total, _) in state.items()}
        self.counts = defaultdict(int, {name: count for name, (_, count) in state.items()})


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
