"""Actor and critic losses on a dream (step 4 of `training/vmil.py`)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vmil.behaviour.actor import ActionDistribution
from vmil.behaviour.returns import discount_weights
from vmil.nets.metrics import Metrics


def actor_loss(
    returns: Tensor, entropy: Tensor, scale: Tensor, *, discount: float, weight: float
) -> tuple[Tensor, Metrics]:
    """−E[γ^t (G_t / scale + weight · H_t)]: gradients reach the actor through the returns, that is through model and D.

    returns (H, N), entropy (H, N) in nats, scale ().
    """
    discounts = discount_weights(len(returns), discount, returns)
    loss = -(discounts * (returns / scale + weight * entropy)).mean()
    return loss, {
        "actor/loss": loss.detach(),
        "actor/return": returns.detach().mean(),
        "actor/entropy": entropy.detach().mean(),
        "actor/advantage_scale": scale.detach(),
    }


def critic_loss(value: Tensor, returns: Tensor, *, discount: float) -> tuple[Tensor, Metrics]:
    """E[γ^t ½ (V(z_t) − G_t)²], G constant; both (H, N)."""
    discounts = discount_weights(len(returns), discount, returns)
    loss = (discounts * 0.5 * (value - returns.detach()).square()).mean()
    return loss, {"critic/loss": loss.detach(), "critic/value": value.detach().mean()}


def cloning_loss(policy: ActionDistribution, action: Tensor) -> tuple[Tensor, Metrics]:
    """−E log π(a_expert | z_expert), nats; action (N, A)."""
    loss = -policy.log_prob(action).mean()
    with torch.no_grad():
        error = (policy.mode() - action).abs().mean()
    return loss, {"actor/cloning": loss.detach(), "actor/cloning_error": error}


def cloning_weight(start: float, decay_updates: float, floor: float, update: int) -> float:
    """start · max(exp(−update / decay), floor); a decay of 0 means constant."""
    if decay_updates <= 0.0:
        return start
    return start * max(math.exp(-update / decay_updates), floor)
