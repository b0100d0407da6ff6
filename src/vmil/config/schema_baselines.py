"""The knobs of what VMIL is compared with: SQIL and DAC on top of DrQ, and behaviour cloning, all from stacked pixels.

Sources: [DrQ] Kostrikov, Yarats & Fergus 2020, "Image augmentation is all you need"; [DAC] Kostrikov et al. 2019,
"Discriminator-actor-critic"; [SQIL] Reddy, Dragan & Levine 2019; [own] chosen by us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmil.config.options import RewardMap
from vmil.config.ranges import Count, Finite, Natural, NotNegative, Positive, PositiveShare, Share

LearnerKind = Literal["vmil", "sqil_drq", "dac_drq", "bc"]


@dataclass
class PixelsConfig:
    """How the baselines see: a stack of frames, shifted at random, through one small encoder."""

    frame_stack: Count = 3  # frames that make one observation [DrQ]
    shift: Natural = 4  # pixels, the largest random shift each way; 0: no augmentation [DrQ]
    filters: Count = 32  # channels of every convolution [DrQ]
    layers: Count = 4  # 3×3 convolutions, the first of stride 2 [DrQ]
    feature: Count = 50  # units of the normalised bottleneck behind them [DrQ]
    units: Count = 1024  # width of actor and critic [DrQ]
    hidden_layers: Natural = 2  # of actor and critic [DrQ]


@dataclass
class DrQConfig:
    """Soft actor-critic, regularised by averaging over random shifts."""

    target_views: Count = 2  # K, shifts of the next observation that a target is averaged over [DrQ]
    views: Count = 2  # M, shifts of the observation that the critic's loss is averaged over [DrQ]
    discount: Share = 0.99  # γ per agent step [DrQ]
    init_temperature: Positive = 0.1  # α at the start; it then holds the entropy at −|A| nats [DrQ]
    lr: Positive = 1e-3  # Adam, of critic, actor and temperature [DrQ]
    actor_every: Count = 2  # updates between two of actor and temperature [DrQ]
    target_every: Count = 2  # updates between two of the target critic [DrQ]
    tau: PositiveShare = 0.01  # share by which the target critic then follows [DrQ]
    min_log_std: Finite = -10.0  # log of the policy's scale before the tanh [DrQ]
    max_log_std: Finite = 2.0  # [DrQ]


@dataclass
class DACConfig:
    """The discriminator on DrQ's features whose answer is the reward."""

    units: Count = 256  # [DAC]
    layers: Natural = 2  # [DAC]
    penalty_scale: NotNegative = 5.0  # λ of the gradient penalty; 10 in [DAC], where the two cross-entropies are summed
    penalty_target: NotNegative = 1.0  # gradient norm aimed at [DAC]
    reward: RewardMap = "logit"  # log D − log(1 − D) [DAC]
    lr: Positive = 1e-3  # [DAC]


@dataclass
class BCConfig:
    """Regression of the expert's actions."""

    lr: Positive = 1e-3  # Adam [DrQ]
