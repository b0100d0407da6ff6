"""Off-policy transitions of stacked frames, from the slices that all algorithms are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vmil.baselines.augment import random_shift
from vmil.data.transition import Batch


class Observation(NamedTuple):
    """What an agent without memory sees."""

    image: Tensor  # (N, H, W, 3k) uint8: k frames, the newest last
    proprio: Tensor | None  # (N, P), now

    def rows(self, which: slice) -> Observation:
        """The given rows."""
        return Observation(self.image[which], None if self.proprio is None else self.proprio[which])

    def views(self, count: int, pad: int) -> Observation:
        """`count` copies, one after the other, each stack moved by its own random shift: (count · N, …)."""
        if pad == 0:
            image = self.image.repeat(count, 1, 1, 1)
        else:
            image = torch.cat([random_shift(self.image, pad) for _ in range(count)])
        return Observation(image, None if self.proprio is None else self.proprio.repeat(count, 1))


@dataclass(frozen=True)
class Transitions:
    """(s, a, s'), N of them; rows [0, num_experts) are the expert's.

    A time limit is no end: there is always an s' to bootstrap from, unless the task itself `terminated`.
    """

    observation: Observation
    action: Tensor  # (N, A)
    next_observation: Observation
    terminated: Tensor  # (N,) bool
    reward: Tensor | None  # (N,), the environment's; None unless debug.use_ground_truth_reward
    num_experts: int

    def __len__(self) -> int:
        return len(self.action)

    def agents(self) -> Transitions:
        """The rows that are not the expert's."""
        rows = slice(self.num_experts, None)
        return Transitions(
            self.observation.rows(rows),
            self.action[rows],
            self.next_observation.rows(rows),
            self.terminated[rows],
            None if self.reward is None else self.reward[rows],
            num_experts=0,
        )


def transitions(batch: Batch) -> Transitions:
    """One transition from each slice of k + 1 steps: the stack of the first k, its action, the stack of the last k."""
    return Transitions(
        observation=stacked(batch, slice(0, -1)),
        action=batch.action[-2],
        next_observation=stacked(batch, slice(1, None)),
        terminated=batch.terminated[-2],
        reward=None if batch.reward is None else batch.reward[-2],
        num_experts=batch.num_experts,
    )


def stacked(batch: Batch, steps: slice) -> Observation:
    """The frames of those steps as one observation, made at the last of them."""
    image = torch.cat(batch.image[steps].unbind(), -1)  # (B, H, W, 3k)
    return Observation(image, None if batch.proprio is None else batch.proprio[steps][-1])
