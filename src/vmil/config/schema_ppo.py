"""Settings of PPO from state (Schulman et al. 2017, arXiv:1707.06347): from a given actor, or from scratch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

from vmil.config.ranges import Count, Natural, NotNegative, Positive, Range, Share, ShareBelowOne


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation, many simulators at once; frames are environment frames.

    The defaults are for an actor that SAC made: dm_control's tasks.
    """

    discount: ShareBelowOne = 0.99
    """Discount per agent step, of SAC and PPO; PPO multiplies rewards by 1 minus it. Source: the SAC paper, table 1."""
    ppo_frames: Natural = 0
    """Budget [environment frames]; 0 leaves the actor as SAC made it. Source: ours; cheetah gains 40 in 3 million."""
    ppo_envs: Count = 128
    """Simulators that are stepped together, one policy evaluation for all. Source: ours."""
    ppo_steps: Count = 64
    """Agent steps of each simulator per iteration. Source: ours."""
    ppo_epochs: Count = 5
    """Passes over an iteration's steps. Source: the PPO paper, table 3: 10, halved."""
    ppo_batch: Count = 1024
    """Agent steps per update. Source: ours; the paper's 64 is for a single simulator."""
    ppo_rate: Positive = 7e-5
    """Adam's step size for the actor. Source: ours, what holds an iteration's KL near 0.01 here (the paper: 3e-4)."""
    ppo_critic_rate: Positive = 1e-3
    """Adam's step size for the critic, which starts from scratch. Source: ours."""
    ppo_std: Positive = 0.15
    """Initial standard deviation of the actions before tanh, learnt from there on. Source: ours."""
    ppo_last_std: NotNegative = 0.0
    """Its upper bound at the end, which falls from `ppo_std` linearly in frames; 0: no bound. Source: ours."""
    ppo_clip: Annotated[float, Range(0, 1, "()")] = 0.2
    """How far from 1 a probability ratio is clipped. Source: the PPO paper, table 3."""
    ppo_kl: Positive = 0.03
    """KL from the collecting policy at which an iteration stops updating the actor. Source: Spinning Up, doubled."""
    ppo_lambda: Share = 0.95
    """λ of the advantages. Source: the PPO paper, table 3."""
    ppo_warmup: Natural = 10
    """Iterations in which the critic alone learns; its first advantages would undo what SAC learnt. Source: ours."""
    ppo_every: Count = 50
    """Iterations between evaluations, each followed by a checkpoint. Source: ours."""


PPO_NAMES = tuple(item.name for item in fields(PPOConfig) if item.name.startswith("ppo_"))


@dataclass(frozen=True)
class HandPolicyConfig(PPOConfig):
    """PPO for the hand, from scratch; a frame is a control step."""

    discount: ShareBelowOne = 0.96
    """Discount per control step: it looks 2.5 s ahead. Source: ours."""
    ppo_hidden: Count = 256
    """Width of the two hidden layers of actor and critic. Source: ours."""
    ppo_light_frames: Natural = 3_500_000
    """Frames in the planner's light simulator, 2.7 times as fast, before those in the real one. Source: ours."""
    ppo_reference: str | None = None
    """Directory of recordings (demo_*.npz) that episodes may start in; null: the planner's, which came with vmil."""
    ppo_reference_share: Share = 0.7
    """Share of the episodes that begin in a recorded state. Source: DeepMimic (arXiv:1804.02717), section 6.1."""
    ppo_off_target: Positive = 0.06
    """Metres from its target at which a ball counts as lost: else the policy parks it. Source: DeepMimic, 6.2."""
    ppo_frames: Natural = 6_000_000
    """Budget [environment frames], the light ones included. Source: ours."""
    ppo_envs: Count = 64
    ppo_steps: Count = 50
    ppo_batch: Count = 800
    ppo_rate: Positive = 1e-4
    ppo_std: Positive = 0.2
    ppo_last_std: NotNegative = 0.05
    ppo_warmup: Natural = 3
    ppo_every: Count = 20
