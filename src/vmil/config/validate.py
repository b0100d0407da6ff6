"""What the types cannot say: the range of every number, and the rules that tie two of them."""

from __future__ import annotations

import math
import re

from vmil.config.errors import UserError
from vmil.config.keys import flatten
from vmil.config.schema import Config

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
    "discriminator.noise_anneal_frames": "[1, inf)",
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
    "behaviour.init_std": "(0, inf)",
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


def inside(value: float, interval: str) -> bool:
    """Whether a number lies in an interval written as `[low, high)`; nan lies in none, infinity only in `]`."""
    match = re.fullmatch(r"([\[(])([^,]+), ([^\])]+)([\])])", interval)
    if match is None:
        raise ValueError(f"not an interval: {interval}")
    left, low, high, right = match.groups()
    above = value >= float(low) if left == "[" else value > float(low)
    below = value <= float(high) if right == "]" else value < float(high)
    return above and below


def check(config: Config) -> None:
    """Refuse a configuration that could not run; raises `UserError` with the first rule it breaks."""
    flat = flatten(config)
    for key, interval in RANGES.items():
        value = flat[key]
        if isinstance(value, (int, float)) and not inside(value, interval):
            raise UserError(f"{key}={value} is outside {interval}")
    for rule in (_check_clock, _check_collector, _check_batch, _check_heads, _check_learner, _check_run):
        rule(config)


def _collected_episode(config: Config) -> tuple[str, int]:
    """The key that says how long a collected episode lasts, and its frames."""
    scored, broken_off = config.env.episode_frames, config.training.episode_frames
    return ("training.episode_frames", broken_off) if 0 < broken_off < scored else ("env.episode_frames", scored)


def _check_clock(config: Config) -> None:
    env, training = config.env, config.training
    _require_multiple("env.episode_frames", env.episode_frames, "env.action_repeat", env.action_repeat)
    key, collected = _collected_episode(config)
    _require_multiple(key, collected, "env.action_repeat", env.action_repeat)
    _require_multiple("training.frames_per_epoch", training.frames_per_epoch, key, collected)
    if training.replay_frames < training.frames_per_epoch:
        raise UserError(
            f"training.replay_frames={training.replay_frames} cannot hold one round of "
            f"training.frames_per_epoch={training.frames_per_epoch}"
        )


def _check_collector(config: Config) -> None:
    collector = config.collector
    if collector.backend == "direct" and collector.workers > 1:
        raise UserError(
            f"collector.workers={collector.workers} needs collector.backend=process or ray: direct is one alone"
        )
    ranks = config.compute.devices * config.compute.nodes
    key, collected = _collected_episode(config)
    wave, rounds = ranks * collector.workers * collected, config.training.frames_per_epoch
    if rounds % wave:
        factors = ("compute.devices × compute.nodes × " if ranks > 1 else "") + f"collector.workers × {key}"
        raise UserError(
            f"training.frames_per_epoch={rounds} would leave some of those that collect idle: it is not a multiple of "
            f"{factors} = {wave}; the next one is {math.ceil(rounds / wave) * wave}"
        )
    if ranks > 1 and config.compute.graphs == "always":
        raise UserError(
            "compute.graphs=always cannot be with several devices: what they send each other is not recorded"
        )


def _check_batch(config: Config) -> None:
    training = config.training
    key, frames = _collected_episode(config)
    steps = frames // config.env.action_repeat
    if training.batch_length > steps:
        raise UserError(
            f"training.batch_length={training.batch_length} is longer than an episode of {steps} agent steps "
            f"({key} / env.action_repeat)"
        )
    if config.learner != "vmil":
        return
    states = training.batch_size * training.batch_length
    if config.behaviour.dream_starts > states:
        raise UserError(
            f"behaviour.dream_starts={config.behaviour.dream_starts} exceeds the {states} states of a batch "
            "(training.batch_size × training.batch_length)"
        )
    experts = max(1, round(training.batch_size * training.demo_fraction))
    if config.discriminator.replay_negatives and experts == training.batch_size:
        raise UserError(
            "discriminator.replay_negatives=true needs agent sequences in the batch: "
            "lower training.demo_fraction or raise training.batch_size"
        )


def _check_heads(config: Config) -> None:
    behaviour = config.behaviour
    if behaviour.policy == "clipped_normal" and not behaviour.min_std < behaviour.init_std < behaviour.max_std:
        raise UserError(
            f"behaviour.init_std={behaviour.init_std} must lie between behaviour.min_std={behaviour.min_std} and "
            f"behaviour.max_std={behaviour.max_std}"
        )


def _check_learner(config: Config) -> None:
    if config.learner == "vmil":
        _require("env.image_size", config.env.image_size, "[64, 64]")  # what nets/conv.py is built for
        _require("training.batch_length", config.training.batch_length, "[2, inf)")  # a triple needs a next state
        _require("training.demo_fraction", config.training.demo_fraction, "(0, 1]")
        return
    if config.env.image_size < 4 * config.pixels.layers - 1:  # (n − 3) // 2 + 1 wide, two less with each further layer
        raise UserError(
            f"env.image_size={config.env.image_size} leaves nothing after pixels.layers={config.pixels.layers}"
        )
    if config.drq.max_log_std <= config.drq.min_log_std:
        raise UserError(
            f"drq.max_log_std={config.drq.max_log_std} must exceed drq.min_log_std={config.drq.min_log_std}"
        )
    true_reward = config.debug.use_ground_truth_reward
    if config.learner == "bc" and true_reward:
        raise UserError("debug.use_ground_truth_reward=true cannot be: behaviour cloning has no reward to replace")
    if config.learner == "sqil_drq" and not true_reward and config.training.batch_size % 2:
        raise UserError(f"training.batch_size={config.training.batch_size} is odd: half of it is the expert's")
    experts = max(1, round(config.training.batch_size * config.training.demo_fraction))
    if config.learner == "dac_drq" and not true_reward and not 0 < experts < config.training.batch_size:
        raise UserError(
            f"training.demo_fraction={config.training.demo_fraction} leaves the learner dac_drq no agent's transition: "
            "lower it or raise training.batch_size"
        )


def _require(key: str, value: float, interval: str) -> None:
    if not inside(value, interval):
        raise UserError(f"{key}={value} is outside {interval}")


def _check_run(config: Config) -> None:
    name = config.run.name
    if name is not None and (not name.strip() or "/" in name or name in (".", "..")):
        raise UserError(f"run.name={name} is not a directory name; its parent is run.root")
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", config.run.variant):
        raise UserError(f"run.variant={config.run.variant} is not a word of letters, digits and _ . + -")


def _require_multiple(key: str, value: int, unit_key: str, unit: int) -> None:
    if value % unit:
        above = math.ceil(value / unit) * unit
        raise UserError(f"{key}={value} is not a multiple of {unit_key}={unit}; the next one is {above}")
