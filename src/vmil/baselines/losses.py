"""Soft actor-critic (Haarnoja et al. 2018) averaged over views of the same pictures (DrQ, equations 1 to 3).

Letters: N transitions, K and M views of the next and of the present observation; the leading 2 are the twin critics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vmil.nets.metrics import Metrics


def soft_target(
    reward: Tensor, terminated: Tensor, value: Tensor, entropy: Tensor, alpha: Tensor, discount: float
) -> Tensor:
    """y = r + γ · mean_k [minᵢ Qᵢ(s'_k, a'_k) − α log π(a'_k | s'_k)], and r alone where the task terminated.

    reward, terminated (N,); value (2, K, N); entropy = −log π, (K, N) → (N,).
    """
    following = (value.min(0).values + alpha * entropy).mean(0)
    return reward + discount * torch.where(terminated, torch.zeros_like(following), following)


def critic_loss(value: Tensor, target: Tensor) -> tuple[Tensor, Metrics]:
    """Σᵢ mean_{m,n} (Qᵢ(s_m, a) − y)², for values (2, M, N) and detached targets (N,)."""
    loss = (value - target).square().mean((1, 2)).sum()
    return loss, {"critic/loss": loss.detach(), "critic/value": value.detach().mean()}


def actor_loss(value: Tensor, entropy: Tensor, alpha: Tensor) -> tuple[Tensor, Metrics]:
    """E[α log π(a | s) − minᵢ Qᵢ(s, a)], for values (2, N) of reparameterised actions and their −log π (N,)."""
    loss = -(value.min(0).values + alpha * entropy).mean()
    return loss, {"actor/loss": loss.detach(), "actor/entropy": entropy.detach().mean()}


def temperature_loss(log_alpha: Tensor, entropy: Tensor, target_entropy: float) -> tuple[Tensor, Metrics]:
    """E[α (−log π − target)]: α falls while there is more entropy (N,) than the target, in nats."""
    loss = log_alpha.exp() * (entropy.detach() - target_entropy).mean()
    return loss, {"temperature/loss": loss.detach(), "temperature/value": log_alpha.detach().exp()}
