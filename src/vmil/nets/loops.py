"""Linear layers inside a loop over time, whose weights' gradients are taken once, over all steps together.

Left to autograd, each step makes a gradient of every weight and adds it to the last one's: with few rows to a step most
of the backward pass is then the reading and writing of weights. One product over all rows gives the same sum.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LoopedLinear:
    """x_t → base_t + W x_t for t = 0, 1, …, each t once and in order; as a constant for the steps, W in all."""

    def __init__(self, weight: Tensor, base: Tensor) -> None:
        """weight (O, I); base (T, B, O), what needs no recurrence: a bias, or other inputs' share."""
        self._transposed = weight.detach().t()
        self._inputs: list[Tensor] = []
        whole: Tensor = _WholeGradient.apply(base, weight, self._inputs)  # type: ignore[no-untyped-call]
        self._base = whole.unbind(0)

    def __call__(self, inputs: Tensor) -> Tensor:
        """The next step's output, (B, I) → (B, O)."""
        base = self._base[len(self._inputs)]
        self._inputs.append(inputs.detach())
        return torch.addmm(base, inputs, self._transposed)


class _WholeGradient(torch.autograd.Function):
    """The base as it is; its gradient, that of every step's output, gives the weight's."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, weight: Tensor, inputs: list[Tensor]) -> Tensor:
        ctx.inputs = inputs  # filled by the loop, after this
        return base.view_as(base)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        whole = None
        if ctx.needs_input_grad[1]:
            whole = grad.flatten(0, 1).t() @ torch.cat(ctx.inputs)
        return grad if ctx.needs_input_grad[0] else None, whole, None
