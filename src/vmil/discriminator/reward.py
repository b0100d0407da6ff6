"""Rewards that a discriminator implies, each as a function of its logit l, where D = sigmoid(l)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vmil.config.options import RewardMap


def reward_from_logit(kind: RewardMap, logit_expert_is_high: Tensor) -> Tensor:
    """(…,) → rewards (…,); high where an expert would be."""
    if kind == "probability":  # D, in (0, 1): the paper's
        return logit_expert_is_high.sigmoid()
    if kind == "log_d":  # log D = −softplus(−l), in (−∞, 0): urges to end an episode
        return -F.softplus(-logit_expert_is_high)
    if kind == "neg_log_one_minus_d":  # −log(1 − D) = softplus(l), in (0, ∞): urges to survive (GAIL)
        return F.softplus(logit_expert_is_high)
    if kind == "logit":  # log D − log(1 − D) = l, unbounded: gives a signal where D is saturated (AIRL)
        return logit_expert_is_high
    raise ValueError(f"unknown reward map {kind!r}")
