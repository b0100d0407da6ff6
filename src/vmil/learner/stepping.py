"""How an optimiser's step is made once its gradients are there, and what becomes of one that is NaN or inf."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from vmil.data.ranks import average_
from vmil.errors import NonFiniteError
from vmil.learner.nonfinite import PATIENCE, Attempt, FiniteGuard, LeftOut


class Part(NamedTuple):
    """A piece of network whose gradient norm is clipped, and logged as `<name>/grad_norm`, on its own."""

    name: str
    module: nn.Module
    clip: float = math.inf  # as it is: only logged


class Stepper(Protocol):
    """Clips gradients and makes steps, and leaves out or refuses those that are not finite."""

    def step(self, attempt: Attempt, optimizer: Any, loss: Tensor, parts: Iterable[Part]) -> dict[str, Tensor]:
        """One step, after its backward pass, by the optimiser as Lightning wraps it; gives the parts' gradient norms.

        Raises:
            NonFiniteError: loss or gradient is not finite, and such steps are not to be left out.
        """
        ...

    def report(self, update: int) -> None:
        """Tells the guard of steps that were left out and that it has not heard of; before that update.

        Raises:
            NonFiniteError: there are some, and none is to be left out, or too many were in a row.
        """
        ...

    def state_dict(self) -> dict[str, list[float]]:
        """Those of which the guard has not heard: see `LeftOut`."""
        ...

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Goes on from there."""
        ...


class HostStepper:
    """Waits for every gradient to see whether it is finite, so that the batch in hand is the one at fault.

    Where several processes learn together, each makes the step by the mean of their gradients.
    """

    def __init__(self, guard: FiniteGuard, learner: nn.Module) -> None:
        self._guard, self._learner = guard, learner
        self._unheard: dict[str, list[float]] = {}  # what a GPU left out in the round that the run goes on with

    def step(self, attempt: Attempt, optimizer: Any, loss: Tensor, parts: Iterable[Part]) -> dict[str, Tensor]:
        """See `Stepper`."""
        loss = average_gradients(optimizer.param_groups, loss)
        norms = _clip(parts)
        if self._guard.allows(attempt, loss, norms, self._learner):
            optimizer.step()
        return norms

    def report(self, update: int) -> None:
        """Nothing: each was told of at once."""

    def state_dict(self) -> dict[str, list[float]]:
        """What a GPU left out, kept until the run is on one again."""
        return self._unheard

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Keeps it."""
        self._unheard = dict(state)


class DeviceStepper:
    """Waits for nothing: the optimiser's kernel itself leaves a broken step out, which is noticed at `report`.

    By then the batch at fault is gone. Such a step can be recorded as a part of a CUDA graph.
    """

    def __init__(self, guard: FiniteGuard, device: torch.device) -> None:
        self._guard, self._left_out = guard, LeftOut(device)

    def step(self, attempt: Attempt, optimizer: Any, loss: Tensor, parts: Iterable[Part]) -> dict[str, Tensor]:
        """See `Stepper`."""
        bare: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)  # what Lightning wraps
        return clip_and_step(bare, parts, self._left_out.of(attempt.name))

    def report(self, update: int) -> None:
        """See `Stepper`; waits for the device."""
        for name, (count, in_a_row) in self._left_out.read().items():
            error = NonFiniteError(
                f"the gradient of the {name} loss was not finite in {count} of its steps before update {update}, "
                f"the last {in_a_row} in a row; these were left out"
            )
            if not self._guard.skip or in_a_row >= PATIENCE:
                raise error
            self._guard.leave_out(error, update, count)

    def state_dict(self) -> dict[str, list[float]]:
        """Left out since the last report, for each loss."""
        return self._left_out.state_dict()

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Counts on from there."""
        self._left_out.load_state_dict(state)


def clip_and_step(optimizer: torch.optim.Optimizer, parts: Iterable[Part], left_out: Tensor) -> dict[str, Tensor]:
    """Clips each part and makes the optimiser's step, all on the device; gives the gradient norms.

    A step whose gradient is not finite is left out by the optimiser's own kernel and counted in `left_out`, as in
    `LeftOut.of`; reading that waits for the device. The optimiser must be a fused Adam.
    """
    norms = _clip(parts)
    finite = torch.stack([norm.float() for norm in norms.values()]).isfinite().all()
    broken = (~finite).float()
    left_out.add_(broken)
    left_out[1].mul_(broken)
    optimizer.found_inf = broken  # type: ignore[attr-defined]  # what a gradient scaler tells the fused kernel
    recording = broken.is_cuda and torch.cuda.is_current_stream_capturing()
    restored = [group.get("capturable", False) for group in optimizer.param_groups]
    try:
        for group in optimizer.param_groups:
            group["capturable"] = recording  # else it refuses to be recorded; its fused kernel always can be
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]
        for group, capturable in zip(optimizer.param_groups, restored, strict=True):
            group["capturable"] = capturable
    return norms


def average_gradients(groups: Iterable[dict[str, Any]], loss: Tensor) -> Tensor:
    """Gives each gradient its mean over the ranks, in place; gives the losses' mean, ().

    Explicitly, and not by DistributedDataParallel: that averages in hooks of the backward pass, and expects one of
    those, not three, after each of its forward passes, through which an update here does not go.
    """
    mean = loss.detach().float().clone()
    average_([mean, *(p.grad for group in groups for p in group["params"] if p.grad is not None)])
    return mean


def _clip(parts: Iterable[Part]) -> dict[str, Tensor]:
    """Clips each part's gradient; its norm before, as a metric."""
    return {
        f"{part.name}/grad_norm": nn.utils.clip_grad_norm_(part.module.parameters(), part.clip).detach()
        for part in parts
    }
