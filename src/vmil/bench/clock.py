"""Seconds of repeated work, a GPU's included."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds of each repeat, in the order measured."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median, which one disturbed repeat does not move."""
        return statistics.median(self.seconds)


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def once(work: Work, device: torch.device) -> float:
    """Seconds of one call, until its result is there."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def repeat(work: Work, device: torch.device, warmup: int, repeats: int) -> Times:
    """Seconds of `repeats` calls after `warmup` unmeasured ones."""
    return alternate({"work": work}, device, warmup, repeats)["work"]


def alternate(works: Mapping[str, Work], device: torch.device, warmup: int, repeats: int) -> dict[str, Times]:
    """The same for several works in turn: whatever disturbs the machine for a while then disturbs all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(warmup + repeats):
        for name, work in works.items():
            seconds[name].append(once(work, device))
    return {name: Times(tuple(measured[warmup:])) for name, measured in seconds.items()}
