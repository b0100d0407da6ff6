"""What a transition is, once and for all.

TorchRL stores ``action[t]`` beside the observation it was taken **at**; nothing here ever shifts that. What the world
model's filter receives at step t is the action that *led* to it, which `previous_actions` derives in one place::

    t           0      1      2      3
    image       x0     x1     x2     x3        TorchRL's natural layout: action[t] was taken at image[t]
    action      a0     a1     a2     (none)
    previous    0      a0     a1     a2        what obs_step(t) receives; zero where is_first, or where a slice starts
    D sees      (z0,a0,z1) (z1,a1,z2) …        the same indices for expert and policy

An episode's last observation carries no action and is not stored, so every stored step has one.
Letters: T steps of a sequence, B sequences, H × W pixels, A action size, P size of the proprioceptive vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor


class Window(NamedTuple):
    """A slice of one episode; where it reaches beyond the episode's ends, their steps are repeated."""

    store: TensorDictBase  # steps in time order
    start: int  # index in it of the slice's first step that exists
    before: int = 0  # repeats of that step in front of it: what an observation of stacked frames sees at a reset
    after: int = 0  # repeats of the episode's last step at the end: nothing follows a terminated one


@dataclass(frozen=True)
class Batch:
    """Sequences for one update, time-major; columns [0, num_experts) are the expert's."""

    image: Tensor  # (T, B, H, W, 3) uint8
    proprio: Tensor | None  # (T, B, P) float32
    action: Tensor  # (T, B, A) float32; action[t] was taken at image[t]
    is_first: Tensor  # (T, B) bool; image[t] opens an episode, or repeats its opening
    terminated: Tensor  # (T, B) bool; action[t] ended the task, as opposed to the time limit
    num_experts: int
    reward: Tensor | None = None  # (T, B) float32; None unless debug.use_ground_truth_reward: imitation never sees it

    def tensors(self) -> dict[str, Tensor]:
        """Those of its fields that hold a tensor, by name."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            name: tensor.to(device, non_blocking=non_blocking) for name, tensor in self.tensors().items()
        }
        return replace(self, **moved)


def previous_actions(action: Tensor, is_first: Tensor) -> Tensor:
    """The action that led to each observation: (T, B, A), (T, B) -> (T, B, A).

    Zero at t = 0, where the slice starts, and wherever an episode does. Selects rather than multiplies, so that a NaN
    in an action that must not be read stays unread.
    """
    shifted = torch.cat([torch.zeros_like(action[:1]), action[:-1]])  # (T, B, A)
    return torch.where(is_first.unsqueeze(-1), torch.zeros_like(shifted), shifted)


def stack_windows(
    windows: Sequence[Window], length: int, keys: Sequence[str], pinned: bool = False
) -> dict[str, Tensor]:
    """Copies B slices of `length` steps once, into contiguous time-major tensors (T, B, ...).

    Contiguous slices and one stack: gathering the same pixels by index takes ten times as long. pinned: into
    page-locked memory, from which a copy to a GPU does not keep the processor waiting.
    """
    stacked = {}
    for key in keys:
        slices = [_cut(window, key, length) for window in windows]
        shape, dtype = (length, len(slices), *slices[0].shape[1:]), slices[0].dtype
        stacked[key] = torch.stack(slices, dim=1, out=torch.empty(shape, dtype=dtype, pin_memory=pinned))  # (T, B, ...)
    return stacked


def _cut(window: Window, key: str, length: int) -> Tensor:
    """The slice's `length` steps, (T, ...): a view, unless it is padded."""
    stop = window.start + length - window.before - window.after
    steps: Tensor = window.store.get(key)[window.start : stop]
    if not (window.before or window.after):
        return steps
    front = steps[:1].expand(window.before, *steps.shape[1:])
    back = steps[-1:].expand(window.after, *steps.shape[1:])
    return torch.cat([front, steps, back])
