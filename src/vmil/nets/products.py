"""Hidden layers' matrix products in bfloat16, for processors that are fast at it only if both factors come in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ROUNDED: ContextVar[bool] = ContextVar("_ROUNDED", default=False)


@contextmanager
def rounded_products() -> Iterator[None]:
    """Inside, every `HiddenLinear` rounds its product's factors and result to bfloat16, forwards and backwards."""
    token = _ROUNDED.set(True)
    try:
        yield
    finally:
        _ROUNDED.reset(token)


def products_are_rounded() -> bool:
    """Whether this is inside `rounded_products`."""
    return _ROUNDED.get()


class HiddenLinear(nn.Linear):
    """`Linear` in the middle of a network, which answers in its input's format even where its product is rounded.

    The layers that answer for a network (an action, a logit, a value) are PyTorch's own, and exact.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        if not _ROUNDED.get():
            return super().forward(input)
        product = F.linear(input.to(torch.bfloat16), self.weight.to(torch.bfloat16)).to(input.dtype)
        return product if self.bias is None else product + self.bias
