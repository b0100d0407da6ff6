"""Settings of PPO (Schulman et al. 2017, arXiv:1707.06347), which takes an actor on from where SAC levels off."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class RefineConfig:
    """Proximal policy optimisation from state, many simulators at once; frames are environment frames."""

    refine_frames: int = 0
    """Budget [environment frames]; 0 leaves the actor as SAC made it. Source: ours; cheetah gains 40 in 3 million."""
    refine_envs: int = 128
    """Simulators that are stepped together, one policy evaluation for all. Source: ours."""
    refine_steps: int = 64
    """Agent steps of each simulator per iteration. Source: ours."""
    refine_epochs: int = 5
    """Passes over an iteration's steps. Source: the PPO paper, table 3: 10, halved."""
    refine_batch: int = 1024
    """Agent steps per update. Source: ours; the paper's 64 is for a single simulator."""
    refine_rate: float = 7e-5
    """Adam's step size for the actor. Source: ours, what holds an iteration's KL near 0.01 here (the paper: 3e-4)."""
    refine_critic_rate: float = 1e-3
    """Adam's step size for the critic, which starts from nothing. Source: ours."""
    refine_std: float = 0.15
    """Initial standard deviation of the actions before tanh, learnt from there on. Source: ours."""
    refine_clip: float = 0.2
    """How far a probability ratio counts from 1. Source: the PPO paper, table 3."""
    refine_kl: float = 0.03
    """KL from the policy that collected at which an iteration leaves the actor alone. Source: Spinning Up, doubled."""
    refine_lambda: float = 0.95
    """λ of the advantages. Source: the PPO paper, table 3."""
    refine_warmup: int = 10
    """Iterations in which the critic alone learns; its first advantages would undo what SAC learnt. Source: ours."""
    refine_every: int = 50
    """Iterations between evaluations, each followed by a checkpoint. Source: ours."""


REFINE_NAMES = tuple(item.name for item in fields(RefineConfig))
