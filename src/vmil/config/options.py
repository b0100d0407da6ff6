"""Options that both the schema and the networks name: `Literal`s and no more, so that plain PyTorch can import them."""

from __future__ import annotations

from typing import Literal

Activation = Literal["elu", "silu"]
Norm = Literal["none", "layer"]
LatentKind = Literal["gaussian", "categorical"]
Penalty = Literal["input", "weights", "none"]
NoiseSchedule = Literal["none", "constant", "annealed"]
RewardMap = Literal["probability", "log_d", "neg_log_one_minus_d", "logit"]
PolicyKind = Literal["tanh_normal", "clipped_normal"]
Normalise = Literal["none", "returns", "advantages"]
