"""What a learner asks of a task that it learns from state: copies to practise on, and a score."""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import nn

from vmil.experts.actor import ActorSpec
from vmil.system.arrays import Floats32

Flags: TypeAlias = npt.NDArray[np.bool_]


class Simulators(Protocol):
    """N copies of a task, stepped together; one that reaches the end of an episode is reset at once."""

    observation: Floats32
    """(N, O): what to act on next; of an episode that is done, the first of the one after it."""

    def step(self, actions: Floats32) -> tuple[Floats32, Floats32, Flags, Flags]:
        """Act (N, A) in [-1, 1]: the states after it (N, O), rewards (N,) of the whole repeat, done and terminated."""
        ...

    def close(self) -> None:
        """Free them."""
        ...


class Practice(Protocol):
    """One task; rewards and states are for an expert only."""

    spec: ActorSpec

    def simulators(self, count: int, seed: int, frames: int, /) -> Simulators:
        """Start so many, of initial states that derive from `seed`, for a learner that has seen `frames` frames."""
        ...

    def score(self, net: nn.Module, episodes: int) -> list[float]:
        """The undiscounted returns of the actor's mode; always the same episodes."""
        ...


def first_lengths(count: int, whole: int) -> list[int]:
    """After how many steps each of N copies breaks its first episode off: spread evenly over a whole one.

    So they are never all at the same time of an episode.
    """
    return [max(1, whole * (index + 1) // count) for index in range(count)]
