"""D_ψ(z, a, z') → the logit of "an expert did this"."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from vmil.config.options import Activation
from vmil.nets.mlp import MLP, eval_mode


class Triples(NamedTuple):
    """Latent transitions, N of them in any leading shape."""

    feat: Tensor  # (…, F) z_t
    action: Tensor  # (…, A) a_t, taken at z_t
    next_feat: Tensor  # (…, F) z_{t+1}

    def detach(self) -> Triples:
        """The same values, detached."""
        return Triples(*(part.detach() for part in self))

    def flat(self) -> Triples:
        """With one leading axis, (N, ·)."""
        return Triples(*(part.flatten(0, -2) for part in self))


class Discriminator(nn.Module):
    """An MLP on [z, c · a, z'] (or [z, c · a], as the successor's code has it).

    A penalty on the input's gradient, or noise on the input, is shared by all its numbers. The few of the action weigh
    little among the hundreds of the latents, where filter and dream differ anyway: `action_scale` c > 1 makes the slope
    over actions, which is what a policy learns from, cheaper by that factor.
    """

    def __init__(
        self,
        feat: int,
        action: int,
        units: int,
        layers: int,
        act: Activation,
        next_state: bool,
        spectral: bool,
        action_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self._sizes = feat, action, units, layers, act
        self.next_state, self.action_scale = next_state, action_scale
        self.net = MLP((2 if next_state else 1) * feat + action, 1, layers, units, act)
        if spectral:
            for module in _linears(self.net):
                spectral_norm(module)

    @torch.no_grad()
    def spectator(self) -> Discriminator:
        """A frozen copy on the CPU that judges as this one does now; unlike spectral norm it can be pickled."""
        # Built anew: a deep copy shares the class that spectral norm made for each layer with the layer itself, and
        # `remove_parametrizations` takes the weight out of that class, and so out of both.
        copy = Discriminator(*self._sizes, next_state=self.next_state, spectral=False, action_scale=self.action_scale)
        with eval_mode(self):
            for ours, its in zip(_linears(self.net), _linears(copy.net), strict=True):
                its.weight.copy_(ours.weight)
                its.bias.copy_(ours.bias)
        return copy.requires_grad_(False)

    def inputs(self, triples: Triples) -> Tensor:
        """What the network reads, (…, I)."""
        action = triples.action if self.action_scale == 1.0 else self.action_scale * triples.action
        if self.next_state:
            return torch.cat([triples.feat, action, triples.next_feat], -1)
        return torch.cat([triples.feat, action], -1)

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, I) → `logit_expert_is_high` (…,)."""
        logit: Tensor = self.net(inputs)[..., 0]
        return logit


def _linears(net: nn.Module) -> list[nn.Linear]:
    return [module for module in net.modules() if isinstance(module, nn.Linear)]
