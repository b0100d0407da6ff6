"""The value V(z) of the implied reward, and its slowly following copy."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from vmil.config.options import Activation, Norm
from vmil.nets.mlp import MLP, polyak_update


class Critic(nn.Module):
    """z → V(z); a target network follows by the share `slow` per update; at 0 the critic is its own target."""

    def __init__(self, feat: int, units: int, layers: int, act: Activation, norm: Norm, slow: float) -> None:
        super().__init__()
        self.slow = slow
        # Random initial values have steep gradients, some twenty times those of the scaled rewards: they would drive
        # the actor into saturation before the critic knows anything.
        self.net = MLP(feat, 1, layers, units, act, norm).with_zero_head()
        self.target_net = copy.deepcopy(self.net).requires_grad_(False) if slow > 0.0 else None

    def forward(self, feat: Tensor) -> Tensor:
        """(…, F) → (…,)."""
        value: Tensor = self.net(feat)[..., 0]
        return value

    def target(self, feat: Tensor) -> Tensor:
        """The value to bootstrap from, (…, F) → (…,)."""
        value: Tensor = (self.net if self.target_net is None else self.target_net)(feat)[..., 0]
        return value

    def follow(self) -> None:
        """Moves the target network one step."""
        if self.target_net is not None:
            polyak_update(self.target_net, self.net, self.slow)
