"""The knobs of what VMIL is compared with: SQIL and DAC on top of DrQ, and behaviour cloning, all from stacked pixels.

Sources: [DrQ] Kostrikov, Yarats & Fergus 2020, "Image augmentation is all you need"; [DAC] Kostrikov et al. 2019,
"Discriminator-actor-critic"; [SQIL] Reddy, Dragan & Levine 2019; [own] chosen by us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmil.config.options import RewardMap

LearnerKind = Literal["vmil", "sqil_drq", "dac_drq", "bc"]


@dataclass
class PixelsConfig:
    """How the baselines see: a stack of frames, shifted at random, through one small encoder."""

    frame_stack: int = 3  # frames that make one observation [DrQ]
    shift: int = 4  # pixels, the largest random shift each way; 0: no augmentation [DrQ]
    filters: int = 32  # channels of every convolution [DrQ]
    layers: int = 4  # 3×3 convolutions, the first of stride 2 [DrQ]
    feature: int = 50  # units of the normalised bottleneck behind them [DrQ]
    units: int = 1024  # width of actor and critic [DrQ]
    hidden_layers: int = 2  # of actor and critic [DrQ]


@dataclass
class DrQConfig:
    """Soft actor-critic, regularised by averaging over random shifts."""

    target_views: int = 2  # K, shifts of the next observation that a target is averaged over [DrQ]
    views: int = 2  # M, shifts of the observation that the critic's loss is averaged over [DrQ]
    discount: float = 0.99  # γ per agent step [DrQ]
    init_temperature: float = 0.1  # α at the start; it then holds the entropy at −|A| nats [DrQ]
    lr: float = 1e-3  # Adam, of critic, actor and temperature [DrQ]
    actor_every: int = 2  # updates between two of actor and temperature [DrQ]
    target_every: int = 2  # updates between two of the target critic [DrQ]
    tau: float = 0.01  # share by which the target critic then follows [DrQ]
    min_log_std: float = -10.0  # log of the policy's scale before the tanh [DrQ]
    max_log_std: float = 2.0  # [DrQ]


@dataclass
class DACConfig:
    """The discriminator on DrQ's features whose answer is the reward."""

    units: int = 256  # [DAC]
    layers: int = 2  # [DAC]
    # λ of the gradient penalty [DAC]; twice as heavy as there, where the cross-entropies are summed, not averaged
    penalty_scale: float = 10.0
    penalty_target: float = 1.0  # gradient norm aimed at [DAC]
    reward: RewardMap = "logit"  # log D − log(1 − D) [DAC]
    lr: float = 1e-3  # [DAC]


@dataclass
class BCConfig:
    """Regression of the expert's actions."""

    lr: float = 1e-3  # Adam [DrQ]
