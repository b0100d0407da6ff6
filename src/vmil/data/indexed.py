"""Slices of steps that lie on a device, read by index: one launch where the processor would copy slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from tensordict import TensorDictBase
from torch import Tensor

from vmil.data.transition import Window


def gather_windows(windows: Sequence[Window], length: int, keys: Sequence[str]) -> dict[str, Tensor]:
    """What `stack_windows` returns, (T, B, ...) contiguous, made on the device where the windows' stores lie.

    One read per key and store. The indices travel there while the device is still busy: nothing waits for it.
    """
    runs = [list(run) for _, run in groupby(windows, key=lambda window: id(window.store))]  # neighbours of one store
    reads = [(run[0].store, _sent(step_indices(run, length), run[0].store.get(keys[0]).device)) for run in runs]
    return {key: _joined([_read(store, key, index) for store, index in reads]) for key in keys}


def step_indices(windows: Sequence[Window], length: int) -> Tensor:
    """Where each slice's steps lie in its store, those that a padded one repeats included: (T, B) int64."""
    places = [(window.start, window.before, window.after) for window in windows]
    start, before, after = torch.tensor(places, dtype=torch.int64).unbind(-1)  # (B,)
    t = torch.arange(length).unsqueeze(-1) - before  # (T, B), from the slice's first step that exists
    return start + t.clamp(min=0).minimum(length - 1 - before - after)


def _sent(index: Tensor, device: torch.device) -> Tensor:
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)


def _read(store: TensorDictBase, key: str, index: Tensor) -> Tensor:
    steps: Tensor = store.get(key).index_select(0, index.flatten())  # (T * B, ...)
    return steps.unflatten(0, index.shape)  # (T, B, ...)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
