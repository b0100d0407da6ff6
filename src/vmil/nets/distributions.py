"""The distributions of the model and the policy, as functions of raw network outputs ("stats") and given noise.

Every sample takes its noise as an argument: two paths can then be compared number by number, and a whole sequence's
noise is drawn in one call.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


class Latent(Protocol):
    """A family of stochastic states: what the RSSM needs to know of it."""

    stats_size: int  # numbers a network must give
    size: int  # length of a sample

    def noise(self, *shape: int, like: Tensor) -> Tensor:
        """Noise for samples of this leading shape, on the device and of the dtype of `like`."""

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """(…, stats_size), noise → a reparameterised (or straight-through) sample (…, size)."""

    def mode(self, stats: Tensor) -> Tensor:
        """(…, stats_size) → the most probable value (…, size)."""

    def kl(self, q: Tensor, p: Tensor) -> Tensor:
        """KL(q‖p) in nats, (…,)."""

    def entropy(self, stats: Tensor) -> Tensor:
        """In nats, (…,)."""


class GaussianLatent:
    """Independent normals; stats are mean and raw scale, the scale is softplus(raw) + min_std (Dreamer v1)."""

    def __init__(self, size: int, min_std: float) -> None:
        self.size = size
        self.stats_size = 2 * size
        self.min_std = min_std

    def noise(self, *shape: int, like: Tensor) -> Tensor:
        """Standard normal, (*shape, size)."""
        return torch.randn(*shape, self.size, dtype=like.dtype, device=like.device)

    def moments(self, stats: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (…, size)."""
        mean, raw = stats.chunk(2, -1)
        # On CPUs softplus is ten times as slow on a view with gaps.
        return mean, F.softplus(raw.contiguous()) + self.min_std

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """mean + std · noise."""
        mean, std = self.moments(stats)
        return torch.addcmul(mean, std, noise)

    def mode(self, stats: Tensor) -> Tensor:
        """The mean."""
        return stats.chunk(2, -1)[0]

    def kl(self, q: Tensor, p: Tensor) -> Tensor:
        """Σ log(σp/σq) + (σq² + (μq − μp)²) / 2σp² − ½."""
        q_mean, q_std = self.moments(q)
        p_mean, p_std = self.moments(p)
        ratio = (q_std / p_std).square()
        return 0.5 * (ratio + ((q_mean - p_mean) / p_std).square() - 1 - ratio.log()).sum(-1)

    def entropy(self, stats: Tensor) -> Tensor:
        """Σ log σ + ½ log 2πe."""
        return (self.moments(stats)[1].log() + 0.5 * (LOG_2PI + 1)).sum(-1)


class CategoricalLatent:
    """`variables` one-hot vectors of `classes`, straight-through gradients, a uniform share mixed in (DreamerV3)."""

    def __init__(self, variables: int, classes: int, unimix: float) -> None:
        self.variables, self.classes, self.unimix = variables, classes, unimix
        self.size = self.stats_size = variables * classes

    def noise(self, *shape: int, like: Tensor) -> Tensor:
        """Standard Gumbel, (*shape, variables · classes)."""
        uniform = torch.rand(*shape, self.size, dtype=like.dtype, device=like.device)
        return -torch.log(-torch.log(uniform.clamp(1e-6, 1 - 1e-6)))

    def log_probs(self, stats: Tensor) -> Tensor:
        """Log-probabilities after mixing, (…, variables, classes)."""
        logits = rearrange(stats, "... (v c) -> ... v c", c=self.classes)
        if self.unimix == 0.0:
            return logits.log_softmax(-1)  # a probability may be less than the smallest number
        probs = (1 - self.unimix) * logits.softmax(-1) + self.unimix / self.classes
        return probs.log()

    def sample(self, stats: Tensor, noise: Tensor) -> Tensor:
        """One-hot of argmax(log p + Gumbel) forward, the probabilities' gradient backward."""
        log_probs = self.log_probs(stats)
        chosen = (log_probs + rearrange(noise, "... (v c) -> ... v c", c=self.classes)).argmax(-1)
        probs = log_probs.exp()
        one_hot = _one_hot(chosen, probs)
        return rearrange(one_hot + probs - probs.detach(), "... v c -> ... (v c)")

    def mode(self, stats: Tensor) -> Tensor:
        """One-hot of the most probable class."""
        log_probs = self.log_probs(stats)
        return rearrange(_one_hot(log_probs.argmax(-1), log_probs), "... v c -> ... (v c)")

    def kl(self, q: Tensor, p: Tensor) -> Tensor:
        """Σ q (log q − log p)."""
        log_q, log_p = self.log_probs(q), self.log_probs(p)
        return (log_q.exp() * (log_q - log_p)).sum((-2, -1))

    def entropy(self, stats: Tensor) -> Tensor:
        """−Σ q log q."""
        log_q = self.log_probs(stats)
        return -(log_q.exp() * log_q).sum((-2, -1))


def _one_hot(chosen: Tensor, like: Tensor) -> Tensor:
    """(…,) classes → (…, C) as `like`; torch's own function reads its argument's range, for which a device waits."""
    return torch.zeros_like(like).scatter_(-1, chosen[..., None], 1.0)


def random_subset(total: int, count: int, like: Tensor) -> Tensor:
    """`count` of the indices below `total`, (count,), without replacement, on the device of `like`."""
    if like.device.type == "cpu":
        return torch.randperm(total)[:count]
    # On CUDA torch draws small permutations on the CPU, and the copy waits.
    return torch.rand(total, device=like.device).argsort()[:count]


def normal_log_prob(value: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(value; mean, std²) summed over the last axis, (…,)."""
    return -(0.5 * ((value - mean) / std).square() + std.log() + 0.5 * LOG_2PI).sum(-1)


def tanh_log_jacobian(raw: Tensor) -> Tensor:
    """log |d tanh(raw) / d raw| summed over the last axis, in a form that does not overflow, (…,)."""
    return (2 * (math.log(2) - raw - F.softplus(-2 * raw))).sum(-1)
