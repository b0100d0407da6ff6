"""What neither types nor ranges can say: the rules that relate two settings."""

from __future__ import annotations

import math
import re

from vmil.config.learners import collects, expert_columns, traits
from vmil.config.ranges import Range, check_ranges, require
from vmil.config.schema import Config
from vmil.errors import UserError
from vmil.system.paths import check_directory_name


def check(config: Config) -> None:
    """Refuse a configuration that could not run; raises `UserError` with the first rule it breaks."""
    check_task(config)
    if collects(config):
        _check_clock(config)
        _check_collector(config)
    for rule in (_check_batch, _check_heads, _check_learner, _check_compute, _check_run):
        rule(config)


def check_task(config: Config) -> None:
    """Refuse values out of range and a task that could not be played, whatever would learn it."""
    check_ranges(config)
    env = config.env
    _require_multiple("env.episode_frames", env.episode_frames, "env.action_repeat", env.action_repeat)


def _collected_episodes(config: Config) -> dict[str, int]:
    """The keys that say how long an episode to learn from lasts, the shortest first, and its frames."""
    training, whole = config.training, {"env.episode_frames": config.env.episode_frames}
    if not collects(config) or not 0 < training.episode_frames < config.env.episode_frames:
        return whole
    short = {"training.episode_frames": training.episode_frames}
    return short | whole if training.whole_episodes_from else short


def _check_clock(config: Config) -> None:
    env, training = config.env, config.training
    for key, collected in _collected_episodes(config).items():
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
    if collector.backend == "direct" and collector.overlap:
        raise UserError(
            "collector.overlap=true needs collector.backend=process or ray: direct plays and learns by turns"
        )
    ranks = config.compute.devices * config.compute.nodes
    for key, collected in _collected_episodes(config).items():
        wave, frames = ranks * collector.workers * collected, config.training.frames_per_epoch
        if frames % wave:
            factors = ("compute.devices × compute.nodes × " if ranks > 1 else "") + f"collector.workers × {key}"
            raise UserError(
                f"training.frames_per_epoch={frames} would leave some of those that collect idle: it is not a multiple "
                f"of {factors} = {wave}; the next one is {math.ceil(frames / wave) * wave}"
            )


def _check_compute(config: Config) -> None:
    if config.compute.devices * config.compute.nodes > 1 and config.compute.graphs == "always":
        raise UserError(
            "compute.graphs=always cannot be with several devices: what they send each other is not recorded"
        )


def _check_batch(config: Config) -> None:
    training = config.training
    key, frames = next(iter(_collected_episodes(config).items()))
    steps = frames // config.env.action_repeat
    if training.batch_length > steps:
        raise UserError(
            f"training.batch_length={training.batch_length} is longer than an episode of {steps} agent steps "
            f"({key} / env.action_repeat)"
        )
    if not traits(config).dreams:
        return
    states = training.batch_size * training.batch_length
    if config.behaviour.dream_starts > states:
        raise UserError(
            f"behaviour.dream_starts={config.behaviour.dream_starts} exceeds the {states} states of a batch "
            "(training.batch_size × training.batch_length)"
        )
    experts = expert_columns(training.batch_size, training.demo_fraction, config.debug.use_ground_truth_reward)
    if not (config.discriminator.dream_negatives or config.discriminator.replay_negatives):
        raise UserError(
            "discriminator.dream_negatives=false leaves D nothing to compare the expert with: set replay_negatives=true"
        )
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
    learner = traits(config)
    if learner.dreams:
        require("env.image_size", config.env.image_size, Range(64, 64, "[]"))  # what nets/conv.py is built for
        require("training.batch_length", config.training.batch_length, Range(2))  # a triple needs a next state
        require("training.demo_fraction", config.training.demo_fraction, Range(0, 1, "(]"))
        return
    if config.env.image_size < 4 * config.pixels.layers - 1:  # (n − 3) // 2 + 1 wide, two less with each further layer
        raise UserError(
            f"env.image_size={config.env.image_size} leaves nothing after pixels.layers={config.pixels.layers}"
        )
    if config.drq.max_log_std <= config.drq.min_log_std:
        raise UserError(
            f"drq.max_log_std={config.drq.max_log_std} must exceed drq.min_log_std={config.drq.min_log_std}"
        )
    training, true_reward = config.training, config.debug.use_ground_truth_reward
    if true_reward and not learner.rewarded:
        raise UserError("debug.use_ground_truth_reward=true cannot be: behaviour cloning has no reward to replace")
    if learner.demo_fraction == 0.5 and not true_reward and training.batch_size % 2:
        raise UserError(f"training.batch_size={training.batch_size} is odd: half of it is the expert's")
    experts = expert_columns(training.batch_size, training.demo_fraction, true_reward)
    if learner.discriminator and not true_reward and experts == training.batch_size:
        raise UserError(
            f"training.demo_fraction={training.demo_fraction} leaves the learner {config.learner} no agent's "
            "transition: lower it or raise training.batch_size"
        )


def _check_run(config: Config) -> None:
    if config.run.name is not None:
        check_directory_name("run.name", config.run.name, parent="run.root")
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", config.run.variant):
        raise UserError(f"run.variant={config.run.variant} is not a word of letters, digits and _ . + -")


def _require_multiple(key: str, value: int, unit_key: str, unit: int) -> None:
    if value % unit:
        above = math.ceil(value / unit) * unit
        raise UserError(f"{key}={value} is not a multiple of {unit_key}={unit}; the next one is {above}")
