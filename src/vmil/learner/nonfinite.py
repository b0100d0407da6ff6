"""Which number is non-finite (NaN or inf), and since when: what a person needs to know about it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vmil.data.transition import Batch
from vmil.errors import NonFiniteError

log = logging.getLogger(__name__)

PATIENCE = 20  # steps in a row that may be left out: beyond that nothing is being learnt


class Skip(NamedTuple):
    """Steps that were left out."""

    error: NonFiniteError  # why; without evidence where steps are judged on the device
    update: int
    total: int  # left out since the run began, these included


class Attempt(NamedTuple):
    """A step that is about to be made."""

    name: str  # of its loss
    update: int
    batch: object  # that it learns from: the evidence, if it leads to a non-finite value


class FiniteGuard:
    """Judges each step's loss and gradient norms; stops the run, or leaves the step out if `skip`."""

    def __init__(self, skip: bool) -> None:
        self.skip = skip
        self.on_skip: Callable[[Skip], object] | None = None  # told of every step that is left out
        self.skipped = 0  # in all
        self._in_a_row: dict[str, int] = {}  # per loss: another one's steps may well be finite

    def allows(self, attempt: Attempt, loss: Tensor, norms: Mapping[str, Tensor], learner: nn.Module) -> bool:
        """Whether the step may be made; waits for the device once.

        Raises:
            NonFiniteError: it may not, and steps are not to be left out, or the last `PATIENCE` all were.
        """
        values = torch.stack([loss.detach().float(), *(norm.detach().float() for norm in norms.values())])
        if bool(torch.isfinite(values).all()):
            self._in_a_row[attempt.name] = 0
            return True
        tensors = attempt.batch.tensors() if isinstance(attempt.batch, Batch) else {}
        error = NonFiniteError(_sentence(attempt, values, list(norms), tensors, learner), tensors)
        if not self.skip:
            raise error
        self._in_a_row[attempt.name] = self._in_a_row.get(attempt.name, 0) + 1
        if self._in_a_row[attempt.name] >= PATIENCE:
            raise NonFiniteError(f"{PATIENCE} steps in a row were left out: {error}", tensors)
        self.leave_out(error, attempt.update)
        return False

    def leave_out(self, error: NonFiniteError, update: int, count: int = 1) -> None:
        """Counts that many steps, left out for this reason, and tells whoever wants to know."""
        self.skipped += count
        if self.on_skip is not None:
            self.on_skip(Skip(error, update, self.skipped))

    def state_dict(self) -> dict[str, Any]:
        """What was left out so far: in all, and in a row."""
        return {"skipped": self.skipped, "in_a_row": dict(self._in_a_row)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Counts on from there."""
        self.skipped, self._in_a_row = int(state["skipped"]), dict(state["in_a_row"])


class LeftOut:
    """Counts, on the device, the steps that were left out because their gradient was not finite, for each loss."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._counts: dict[str, Tensor] = {}

    def of(self, name: str) -> Tensor:
        """(2,) of a loss: how many steps since the last `read`, and how many of its last ones in a row."""
        if name not in self._counts:
            self._counts[name] = torch.zeros(2, device=self._device)
        return self._counts[name]

    def read(self) -> dict[str, tuple[int, int]]:
        """Both numbers of each loss that lost a step since the last call; waits for the device."""
        if not self._counts:
            return {}
        rows = torch.stack(list(self._counts.values())).tolist()
        for counts in self._counts.values():
            counts[0].zero_()
        return {name: (int(lost), int(row)) for name, (lost, row) in zip(self._counts, rows, strict=True) if lost}

    def state_dict(self) -> dict[str, list[float]]:
        """Both numbers of each loss, so that a run stopped within a round tells of the whole round."""
        return {name: counts.tolist() for name, counts in self._counts.items()}

    def load_state_dict(self, state: Mapping[str, Sequence[float]]) -> None:
        """Counts on from there."""
        self._counts = {name: torch.tensor(counts, device=self._device) for name, counts in state.items()}


def _sentence(
    attempt: Attempt, values: Tensor, norms: list[str], batch: Mapping[str, Tensor], learner: nn.Module
) -> str:
    """`the model loss is not finite at update 7 (it is nan); the batch contains non-finite values in: action`."""
    loss, *sizes = values.tolist()
    if math.isfinite(loss):
        culprits = [norm.partition("/")[0] for norm, size in zip(norms, sizes, strict=True) if not math.isfinite(size)]
        what = f"the gradient of the {attempt.name} loss is not finite at update {attempt.update} "
        what += f"(in {', '.join(culprits)}; the loss is {loss:g})"
    else:
        what = f"the {attempt.name} loss is not finite at update {attempt.update} (it is {loss:g})"
    fields = [field for field, tensor in batch.items() if _poisoned(tensor)]
    if fields:
        return f"{what}; the batch contains non-finite values in: {', '.join(fields)}"
    weights = next((key for key, weight in learner.named_parameters() if _poisoned(weight)), None)
    return f"{what}; the batch is finite, " + ("and so are the weights" if weights is None else f"but not {weights}")


def _poisoned(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not bool(torch.isfinite(tensor.detach()).all())
