"""The policy π(a | z) on [−1, 1]^A."""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmil.config.options import Activation, Norm
from vmil.nets.distributions import LOG_2PI, normal_log_prob, tanh_log_jacobian
from vmil.nets.mlp import MLP


class ActionDistribution(Protocol):
    """π(· | z) for a batch of states."""

    def sample(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Standard normal noise (…, A) → reparameterised actions (…, A) and their entropy bonus (…,), nats."""

    def mode(self) -> Tensor:
        """The deterministic action, (…, A)."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Of given actions (…, A) in [−1, 1]: (…,)."""

    @property
    def std(self) -> Tensor:
        """Scale of the underlying normal, (…, A)."""


class TanhNormal:
    """tanh of a normal (Dreamer v1, SAC); its entropy is estimated by −log π of the sample."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std  # before the tanh, (…, A)

    def sample(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and −log π(action)."""
        raw = torch.addcmul(self.mean, self.std, noise)
        return raw.tanh(), tanh_log_jacobian(raw) - normal_log_prob(raw, self.mean, self.std)

    def mode(self) -> Tensor:
        """tanh(mean)."""
        return self.mean.tanh()

    def log_prob(self, action: Tensor) -> Tensor:
        """log N(atanh a) − log |da/du|; actions are pulled 1e-3 away from ±1, where the density is infinite."""
        raw = torch.atanh(action.clamp(-1 + 1e-3, 1 - 1e-3))
        return normal_log_prob(raw, self.mean, self.std) - tanh_log_jacobian(raw)


class ClippedNormal:
    """A normal around a mean in (−1, 1), clipped to [−1, 1] with the unclipped sample's gradient (DreamerV3's actor).

    The clip matters here more than for Dreamer: a discriminator would recognise the policy by its actions beyond ±1.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std  # before the clip, (…, A)

    def sample(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and the normal's own entropy."""
        raw = torch.addcmul(self.mean, self.std, noise)
        clipped = raw + (raw.clamp(-1.0, 1.0) - raw).detach()
        return clipped, (self.std.log() + 0.5 * (LOG_2PI + 1)).sum(-1)

    def mode(self) -> Tensor:
        """The mean."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """The unclipped normal's density."""
        return normal_log_prob(action, self.mean, self.std)


class ActionHead(Protocol):
    """What turns an actor's raw outputs into π(· | z)."""

    def __call__(self, mean: Tensor, raw: Tensor) -> ActionDistribution:
        """Raw mean and raw scale, each (…, A) and 0 before anything was learnt, to the distribution of a (…, A)."""


class TanhNormalHead:
    """Before the tanh: mean c · tanh(mean / c), std softplus(raw + constant) + min_std (Dreamer v1)."""

    def __init__(self, mean_scale: float, init_std: float, min_std: float) -> None:
        self.mean_scale, self.min_std = mean_scale, min_std
        self.raw_init_std = math.log(math.expm1(init_std))

    def __call__(self, mean: Tensor, raw: Tensor) -> TanhNormal:
        """(…, A), (…, A) → π."""
        mean = self.mean_scale * torch.tanh(mean / self.mean_scale)
        return TanhNormal(mean, F.softplus(raw + self.raw_init_std) + self.min_std)


class ClippedNormalHead:
    """Before the clip: mean tanh(mean), std between min_std and max_std (DreamerV3)."""

    def __init__(self, init_std: float, min_std: float, max_std: float) -> None:
        if not min_std < init_std < max_std:
            raise ValueError(f"behaviour.init_std {init_std} must lie between min_std {min_std} and max_std {max_std}")
        self.min_std, self.max_std = min_std, max_std
        share = (init_std - min_std) / (max_std - min_std)
        self.raw_init_std = math.log(share / (1 - share))

    def __call__(self, mean: Tensor, raw: Tensor) -> ClippedNormal:
        """(…, A), (…, A) → π."""
        std = self.min_std + (self.max_std - self.min_std) * torch.sigmoid(raw + self.raw_init_std)
        return ClippedNormal(torch.tanh(mean), std)


class Actor(nn.Module):
    """z → π(· | z)."""

    def __init__(
        self, feat: int, action: int, units: int, layers: int, act: Activation, norm: Norm, head: ActionHead
    ) -> None:
        super().__init__()
        self.action_size, self.head = action, head
        # A zero head: at first the mean is 0 and the standard deviation init_std in every state.
        self.net = MLP(feat, 2 * action, layers, units, act, norm).with_zero_head()

    def forward(self, feat: Tensor) -> ActionDistribution:
        """(…, F) → the distribution of a (…, A)."""
        mean, raw = self.net(feat).chunk(2, -1)
        return self.head(mean, raw)
