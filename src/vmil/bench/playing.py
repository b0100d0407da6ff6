"""What acting takes: the policy, the pictures, the simulator, and a whole collected episode."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import get_args

import numpy as np
import torch
from tensordict import TensorDict

from vmil.bench.clock import Times, repeat
from vmil.bench.report import Row, Table, rate_row, times_row
from vmil.bench.updates import prepared
from vmil.config.schema import Config, EnvConfig, RenderProfile
from vmil.data.collect import EpisodeCollector, one_thread
from vmil.data.parallel import make_collector
from vmil.envs.episodes import EpisodicEnv
from vmil.envs.factory import env_info, make_env
from vmil.system.machine import allowed_cores

CPU = torch.device("cpu")
CALLS = 20  # in each repeat: one takes less than a millisecond, or a few
TOGETHER = (1, 4, 8)  # environments acted in at once
MOST_WORKERS = 8
SIDES = (32, 64, 128)  # pixels, of the pictures that the scaling table compares


def measure_acting(table: Table, config: Config, warmup: int, repeats: int) -> None:
    """One decision of the policy: encode the picture, filter, draw an action; on one thread, as the collector does."""
    info = env_info(config.env)
    learner, _ = prepared(config, info.action_size, info.proprio_size)
    for count in TOGETHER:
        policy = learner.exploration_policy()
        image = torch.randint(0, 256, (count, info.image_size, info.image_size, 3), dtype=torch.uint8)
        vector = torch.randn(count, info.proprio_size) if info.proprio_size else None
        is_first = torch.zeros(count, dtype=torch.bool)

        def decide() -> None:
            for _ in range(CALLS):
                policy(image, vector, is_first)  # noqa: B023  called before the next turn of the loop

        with one_thread():
            times = repeat(decide, learner.device, warmup, repeats)
        each = Times(tuple(seconds / CALLS for seconds in times.seconds))
        table.add(times_row("acting", f"{count} environment{'s' if count > 1 else ''} at once", each, config.algo))


def picture_times(config: EnvConfig, repeats: int) -> Times:
    """Seconds of drawing one picture, of `repeats` of them along an episode of random actions."""
    env = make_env(config, seed=0)
    try:
        env.reset()
        return Times(tuple(_draw(env) for _ in range(CALLS * repeats)))
    finally:
        env.close()


def _draw(env: EpisodicEnv) -> float:
    """Takes one random step, in a new episode if the last is over; returns the seconds spent drawing."""
    before = env.render_seconds
    if env.over:
        env.reset()
    else:
        env.step(TensorDict({"action": env.action_spec.rand()}, []))
    return env.render_seconds - before


def measure_rendering(table: Table, config: EnvConfig, repeats: int) -> None:
    """One picture, in each profile."""
    for profile in get_args(RenderProfile):
        times = picture_times(replace(config, render_profile=profile), repeats)
        size = f"{config.image_size}×{config.image_size}"
        table.add(times_row("rendering", f"{config.name}, {profile}", times, f"{size}, camera {config.camera}"))


def measure_environment(table: Table, config: EnvConfig, warmup: int, repeats: int) -> None:
    """Agent steps of the simulator alone, nothing drawn, nothing copied."""
    env = make_env(config, seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (CALLS, *env.action_spec.shape)).astype(np.float32)

    def advance() -> None:
        for action in actions:
            if env.over:
                env.open_episode()
            env.advance(action)

    try:
        times = repeat(advance, CPU, warmup, repeats)
    finally:
        env.close()
    note = f"{config.action_repeat} frames each"
    table.add(rate_row("environment", f"{config.name}: agent steps", times, CALLS, note))
    table.add(rate_row("environment", f"{config.name}: frames", times, CALLS * config.action_repeat))


def measure_collection(table: Table, config: Config, warmup: int, repeats: int) -> None:
    """Whole episodes through the collector: act, step, draw, store."""
    info = env_info(config.env)
    learner, _ = prepared(config, info.action_size, info.proprio_size)
    collector = EpisodeCollector(
        make_env(config.env, config.seed),
        info.steps_per_episode,
        info.frames_per_step,
        seed=0,
        policy=learner.exploration_policy(),
    )
    parts: dict[str, list[float]] = {}
    lengths: list[int] = []

    def collect() -> None:
        lengths.append(len(collector.collect_episode()))
        for name, seconds in collector.seconds.items():
            parts.setdefault(name, []).append(seconds)

    try:
        times = repeat(collect, learner.device, warmup, repeats)
    finally:
        collector.close()
    frames = info.frames_per_step * lengths[-1]
    what = f"{config.env.name}, {config.env.render_profile}"
    total = Row(
        "collection", f"{what}: one episode", times.median, "s", min(times.seconds), max(times.seconds), repeats
    )
    table.add(replace(total, note=f"{frames:,} frames"))
    for name, seconds in parts.items():
        part = Times(tuple(seconds[warmup:]))
        row = Row("collection", f"{what}: {name.removeprefix('time/')}", part.median, "s", min(part.seconds))
        table.add(replace(row, high=max(part.seconds), repeats=repeats))
    table.add(rate_row("collection", f"{what}: frames", times, frames))


def measure_workers(table: Table, config: Config, warmup: int, repeats: int) -> None:
    """Whole episodes by worker processes: as many as there are cores, half as many, and so on."""
    info, cores = env_info(config.env), min(MOST_WORKERS, allowed_cores())
    learner, _ = prepared(config, info.action_size, info.proprio_size)
    for workers in [count for count in (1, 2, 4, MOST_WORKERS) if count <= cores]:
        asked = replace(config, collector=replace(config.collector, backend="process", workers=workers))
        collector = make_collector(asked, config.seed, 0, learner.exploration_policy())
        lengths: list[int] = []
        try:
            started = time.perf_counter()
            for _ in range(workers):  # the first episodes wait for the processes
                collector.collect_episode()
            begun = time.perf_counter() - started

            def collect() -> None:
                lengths.append(sum(len(collector.collect_episode()) for _ in range(workers)))  # noqa: B023  called here

            times = repeat(collect, learner.device, warmup, repeats)
        finally:
            collector.close()
        what = f"{config.env.name}: frames by {workers} process{'es' if workers > 1 else ''}"
        note = f"{begun:.0f} s until the first episode"
        table.add(rate_row("workers", what, times, info.frames_per_step * lengths[-1], note))
