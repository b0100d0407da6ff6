"""Fully connected networks and the gated recurrent cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Self, cast

import torch
from torch import Tensor, nn

from vmil.config.options import Activation, Norm
from vmil.nets.products import HiddenLinear


def activation(name: Activation, view: bool = False) -> nn.Module:
    """The nonlinearity called `name`; it overwrites its input if it can, unless that is a view of something else."""
    if name == "elu":
        return nn.ELU(inplace=not view)  # its gradient needs no more than its result; SiLU's needs its input
    if name == "silu":
        return nn.SiLU()
    raise ValueError(f"unknown activation {name!r}")


def dense(inputs: int, outputs: int, act: Activation, norm: Norm) -> nn.Sequential:
    """One hidden layer, (…, inputs) → (…, outputs): linear, LayerNorm if asked (it then has the bias), nonlinearity."""
    if norm == "none":
        return nn.Sequential(HiddenLinear(inputs, outputs), activation(act))
    if norm == "layer":
        layer = HiddenLinear(inputs, outputs, bias=False)
        return nn.Sequential(layer, nn.LayerNorm(outputs, eps=1e-3), activation(act))
    raise ValueError(f"unknown norm {norm!r}")


def in_rows(function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """`function` of (N, inputs), N all leading axes together.

    A linear layer's answer to more axes is a view, and to overwrite that, as ELU does, costs autograd three copies.
    """
    return function(inputs.reshape(-1, inputs.shape[-1])).reshape(*inputs.shape[:-1], -1)


class MLP(nn.Sequential):
    """`layers` hidden layers of `units`, then a linear map: (…, inputs) → (…, outputs)."""

    def __init__(
        self, inputs: int, outputs: int, layers: int, units: int, act: Activation = "elu", norm: Norm = "none"
    ) -> None:
        sizes = [inputs] + [units] * layers
        hidden = [dense(i, o, act, norm) for i, o in pairwise(sizes)]
        super().__init__(*hidden, nn.Linear(sizes[-1], outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, inputs) → (…, outputs)."""
        return in_rows(super().forward, inputs)

    @property
    def head(self) -> nn.Linear:
        """The last, linear layer."""
        return cast(nn.Linear, self[-1])

    def with_zero_head(self) -> Self:
        """The same network, answering 0 to everything until it learns (DreamerV3's critic)."""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        return self


class LayerNormGRUCell(nn.Module):
    """A GRU cell that normalises its gates, with the update gate biased towards keeping (DreamerV2, `GRUCell`)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.gates = HiddenLinear(inputs + units, 3 * units, bias=False)
        self.norm = nn.LayerNorm(3 * units, eps=1e-3)

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """(B, I), (B, D) → the next hidden state (B, D)."""
        return self.mix(self.gates(torch.cat([inputs, hidden], -1)), hidden)

    def mix(self, gates: Tensor, hidden: Tensor) -> Tensor:
        """The same from the gates before their norm, (B, 3D)."""
        reset, candidate, update = self.norm(gates).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        # The bias of −1 makes a fresh cell remember: it starts by keeping 73 % of its state.
        return torch.lerp(hidden, candidate, torch.sigmoid(update - 1))


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Lets gradients flow *through* `modules` but not *into* their weights, for whatever is computed inside."""
    weights = [p for module in modules for p in module.parameters() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


@torch.no_grad()
def polyak_update(slow: nn.Module, fast: nn.Module, share: float) -> None:
    """Moves the weights of `slow` towards those of `fast`, of the same build, by that share of the way."""
    targets: list[Tensor] = list(slow.parameters())
    weights: list[Tensor] = list(fast.parameters())
    torch._foreach_lerp_(targets, weights, share)


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Runs `modules` in eval mode, so that a mere look at them moves no buffer (spectral norm's power iteration)."""
    training = [module for module in modules if module.training]
    for module in training:
        module.eval()
    try:
        yield
    finally:
        for module in training:
            module.train()
