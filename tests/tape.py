"""A recorder for tests: a tape of tensor operations on the CPU, which is what a CUDA graph is on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}  # ask the device for a value
FROM_HOST = {torch.ops.aten.lift_fresh.default}  # make a tensor of Python's numbers, which must be copied to a device


class Tape(TorchDispatchMode):
    """Notes every operation on tensors, then repeats them on the same memory: what a CUDA graph does with kernels.

    A step that branches on data, waits for a value, or keeps a number of its own in Python repeats it wrongly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.done = True

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in WAITS | FROM_HOST:
            raise AssertionError(f"{func} cannot be recorded")
        out = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Repeats them; the first time they have just been done."""
        if self.done:
            self.done = False
            return
        with torch.no_grad():
            for func, args, kwargs, noted in self.operations:
                if func.is_view:
                    continue  # views stay where they are
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(noted), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class TapeRecorder:
    """Records on tapes, on the CPU."""

    def __init__(self) -> None:
        self.tapes: list[Tape] = []

    def warm(self, work: Callable[[], None]) -> None:
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        with Tape() as tape:
            work()
        self.tapes.append(tape)
        return tape.replay
