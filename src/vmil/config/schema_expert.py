"""Settings of the state-based expert that makes demonstrations: SAC (Haarnoja et al. 2018, arXiv:1812.05905)."""

from __future__ import annotations

from dataclasses import dataclass

from vmil.config.ranges import Count, Finite, Natural, NotNegative, Positive, PositiveShare
from vmil.config.schema_ppo import PPOConfig


@dataclass(frozen=True)
class ExpertConfig(PPOConfig):
    """Soft actor-critic from state; frames are environment frames, before the action repeat."""

    frames: Count = 160_000
    """Budget [environment frames]; walker-walk is at 930 after 60 000, at 950 from 100 000 on. Source: our run."""
    target_return: NotNegative = 0.0
    """Stop early once an evaluation's mean return reaches this; 0 never stops early. Source: ours."""
    action_repeat: Count = 2
    """Environment frames per agent step, rewards summed. Source: PlaNet (arXiv:1811.04551), table of tasks."""
    random_frames: Natural = 5_000
    """Frames of uniformly random actions before the first update. Source: Spinning Up, `start_steps`, halved."""
    collect_frames: Count = 100
    """Frames between two bursts of updates; must divide `eval_every`. Source: Spinning Up, `update_every`."""
    updates_per_step: Positive = 0.5
    """Updates per agent step. Source: ours; an update costs ten steps here, so half the paper's 1 is faster."""
    batch_size: Count = 256
    """Transitions per update. Source: the SAC paper, table 1."""
    hidden: Count = 256
    """Width of the two hidden layers of actor and critics. Source: the SAC paper, table 1."""
    learning_rate: Positive = 1e-3
    """Adam's step size for actor, critics and temperature. Source: Spinning Up (the paper: 3e-4)."""
    return_steps: Count = 1
    """Rewards summed before the critic bootstraps; 3 learns to run sooner. Source: D4PG (arXiv:1804.08617)."""
    target_entropy: Finite = -1.0
    """What the temperature holds the policy's entropy at, per action dimension. Source: the SAC paper, table 1."""
    target_rate: PositiveShare = 0.01
    """Share of the online critic mixed into the target per update. Source: pytorch_sac (the paper: 0.005)."""
    init_temperature: Positive = 0.1
    """Initial entropy coefficient. Source: pytorch_sac, `init_temperature`."""
    eval_every: Count = 20_000
    """Frames between evaluations, each followed by a checkpoint; a whole number of episodes. Source: ours."""
    eval_episodes: Count = 10
    """Deterministic episodes per evaluation, and for the final score. Source: ours."""
