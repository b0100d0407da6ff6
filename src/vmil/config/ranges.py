"""The range of every number: of a run's configuration, and of the commands' own options."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vmil.config.errors import UserError

# Interval of every numeric leaf, in the notation of mathematics; a test asserts that none is forgotten.
RANGES: dict[str, str] = {
    "seed": "[0, 4294967295]",  # numpy's legacy seeds, which dm_control uses, are 32 bits
    "env.image_size": "[16, 512]",
    "env.action_repeat": "[1, inf)",
    "env.episode_frames": "[2, inf)",
    "demos.count": "[1, inf)",
    "world_model.deter": "[1, inf)",
    "world_model.stoch": "[1, inf)",
    "world_model.classes": "[2, inf)",
    "world_model.hidden": "[1, inf)",
    "world_model.min_std": "(0, inf)",
    "world_model.unimix": "[0, 1)",
    "world_model.depth": "[1, inf)",
    "world_model.proprio_hidden": "[1, inf)",
    "world_model.free_nats": "[0, inf)",
    "world_model.kl_balance": "[0, 1]",
    "world_model.kl_scale": "[0, inf)",
    "world_model.reconstruct_fraction": "(0, 1]",
    "world_model.lr": "(0, inf)",
    "world_model.eps": "(0, inf)",
    "world_model.clip": "(0, inf)",
    "discriminator.units": "[1, inf)",
    "discriminator.layers": "[0, inf)",
    "discriminator.action_scale": "(0, inf)",
    "discriminator.penalty_scale": "[0, inf)",
    "discriminator.penalty_target": "[0, inf)",
    "discriminator.noise_std": "[0, inf)",
    "discriminator.noise_anneal_frames": "[0, inf)",
    "discriminator.updates": "[1, inf)",
    "discriminator.lr": "(0, inf)",
    "discriminator.eps": "(0, inf)",
    "discriminator.clip": "(0, inf)",
    "behaviour.horizon": "[1, inf)",
    "behaviour.discount": "[0, 1]",
    "behaviour.lam": "[0, 1]",
    "behaviour.reward_scale": "(0, inf)",
    "behaviour.dream_starts": "[0, inf)",
    "behaviour.entropy": "[0, inf)",
    "behaviour.actor_units": "[1, inf)",
    "behaviour.actor_layers": "[0, inf)",
    "behaviour.critic_units": "[1, inf)",
    "behaviour.critic_layers": "[0, inf)",
    "behaviour.mean_scale": "(0, inf)",
    "behaviour.init_std": "(0, 100]",
    "behaviour.min_std": "(0, inf)",
    "behaviour.max_std": "(0, inf)",
    "behaviour.actor_lr": "(0, inf)",
    "behaviour.actor_beta": "[0, 1)",
    "behaviour.critic_lr": "(0, inf)",
    "behaviour.eps": "(0, inf)",
    "behaviour.clip": "(0, inf)",
    "behaviour.slow_critic": "[0, 1]",
    "behaviour.actor_average": "[0, 1]",
    "behaviour.cloning": "[0, inf)",
    "behaviour.cloning_decay_updates": "[0, inf)",
    "behaviour.cloning_floor": "[0, 1]",
    "behaviour.exploration_std": "[0, inf)",
    "behaviour.exploration_correlation": "[0, 1)",
    "behaviour.exploration_spread": "[0, 1]",
    "behaviour.exploration_frames": "[0, inf)",
    "pixels.frame_stack": "[1, inf)",
    "pixels.shift": "[0, inf)",
    "pixels.filters": "[1, inf)",
    "pixels.layers": "[1, inf)",
    "pixels.feature": "[1, inf)",
    "pixels.units": "[1, inf)",
    "pixels.hidden_layers": "[0, inf)",
    "drq.target_views": "[1, inf)",
    "drq.views": "[1, inf)",
    "drq.discount": "[0, 1]",
    "drq.init_temperature": "(0, inf)",
    "drq.lr": "(0, inf)",
    "drq.actor_every": "[1, inf)",
    "drq.target_every": "[1, inf)",
    "drq.tau": "(0, 1]",
    "drq.min_log_std": "(-inf, inf)",
    "drq.max_log_std": "(-inf, inf)",
    "dac.units": "[1, inf)",
    "dac.layers": "[0, inf)",
    "dac.penalty_scale": "[0, inf)",
    "dac.penalty_target": "[0, inf)",
    "dac.lr": "(0, inf)",
    "bc.lr": "(0, inf)",
    "training.frames": "[1, inf)",
    "training.frames_per_epoch": "[1, inf)",
    "training.episode_frames": "[0, inf)",
    "training.updates_per_epoch": "[1, inf)",
    "training.seed_frames": "[0, inf)",
    "training.pretrain_updates": "[0, inf)",
    "training.batch_size": "[1, inf)",
    "training.batch_length": "[1, inf)",
    "training.demo_fraction": "[0, 1]",
    "training.opening_share": "[0, 1]",
    "training.replay_frames": "[1, inf)",
    "training.eval_every_frames": "[1, inf)",
    "training.eval_episodes": "[1, inf)",
    "training.checkpoint_every_frames": "[1, inf)",
    "training.image_log_every_frames": "[1, inf)",
    "collector.workers": "[1, inf)",
    "collector.timeout": "(0, inf)",
    "compute.devices": "[1, inf)",
    "compute.nodes": "[1, inf)",
    "compute.threads": "[0, inf)",
}

# The same of every numeric option; a name that two commands have means the same in both.
OPTION_RANGES: dict[str, str] = {
    "seed": RANGES["seed"],
    # evaluate, ship
    "episodes": "[1, inf)",
    # demos
    "count": "[1, inf)",
    "min_return": "(-inf, inf)",
    "action_noise": "[0, inf)",
    # expert: SAC
    "frames": "[1, inf)",
    "target_return": "[0, inf)",
    "action_repeat": "[1, inf)",
    "random_frames": "[0, inf)",
    "collect_frames": "[1, inf)",
    "updates_per_step": "(0, inf)",
    "batch_size": "[1, inf)",
    "hidden": "[1, inf)",
    "learning_rate": "(0, inf)",
    "return_steps": "[1, inf)",
    "target_entropy": "(-inf, inf)",
    "target_rate": "(0, 1]",
    "init_temperature": "(0, inf)",
    "eval_every": "[1, inf)",
    "eval_episodes": "[1, inf)",
    # expert: PPO
    "discount": "[0, 1)",  # PPO multiplies rewards by 1 - discount
    "ppo_frames": "[0, inf)",
    "ppo_envs": "[1, inf)",
    "ppo_steps": "[1, inf)",
    "ppo_epochs": "[1, inf)",
    "ppo_batch": "[1, inf)",
    "ppo_rate": "(0, inf)",
    "ppo_critic_rate": "(0, inf)",
    "ppo_std": "(0, inf)",
    "ppo_last_std": "[0, inf)",
    "ppo_clip": "(0, 1)",
    "ppo_kl": "(0, inf)",
    "ppo_lambda": "[0, 1]",
    "ppo_warmup": "[0, inf)",
    "ppo_every": "[1, inf)",
    "ppo_hidden": "[1, inf)",
    "ppo_light_frames": "[0, inf)",
    "ppo_reference_share": "[0, 1]",
    "ppo_off_target": "(0, inf)",
    # expert, demos: the planner and its ensemble
    "horizon": "[1, inf)",
    "samples": "[1, inf)",
    "iterations": "[1, inf)",
    "kappa": "[0, inf)",
    "beta": "[0, 1]",
    "sigma": "[0, inf)",
    "fine_share": "[0, 1]",
    "fine_sigma": "[0, inf)",
    "timestep": "[0.0001, inf)",
    "threads": "[1, inf)",
    "rounds": "[1, inf)",  # of bench too
    "rollouts": "[1, inf)",
    "updates": "[1, inf)",
    "ensemble": "[1, inf)",
    "layers": "[1, inf)",
    # experiment
    "budget": "[1, inf)",
    "jobs": "[0, inf)",
    "retries": "[0, inf)",
    # ui
    "port": "[1, 65535]",
    # bench
    "repeats": "[1, inf)",
    "warmup": "[0, inf)",
    "buffer_frames": "[1, inf)",
}


def check_ranges(flat: Mapping[str, object], ranges: Mapping[str, str]) -> None:
    """Refuse the first number of `flat` that lies outside its range; raises `UserError`."""
    for key, interval in ranges.items():
        if key in flat:
            require(key, flat[key], interval)


def require(key: str, value: object, interval: str) -> None:
    """Refuse a number outside an interval, which null and texts never are; raises `UserError`."""
    if isinstance(value, (int, float)) and not inside(value, interval):
        raise UserError(f"{key}={value} is outside {interval}")


def inside(value: float, interval: str) -> bool:
    """Whether a number lies in an interval written as `[low, high)`; nan lies in none, infinity only in `]`."""
    match = re.fullmatch(r"([\[(])([^,]+), ([^\])]+)([\])])", interval)
    if match is None:
        raise ValueError(f"not an interval: {interval}")
    left, low, high, right = match.groups()
    above = value >= float(low) if left == "[" else value > float(low)
    below = value <= float(high) if right == "]" else value < float(high)
    return above and below
