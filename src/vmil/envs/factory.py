"""From a name to an environment, to its sizes, and from recorded states to pictures."""

from __future__ import annotations

import functools
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.episodes import EpisodicEnv
from vmil.envs.failures import telling
from vmil.envs.tasks import Task, find_task


@dataclass(frozen=True)
class EnvInfo:
    """What a model has to know about an environment before one is made."""

    action_size: int
    proprio_size: int  # 0: no vector observation
    image_size: int  # pixels, square
    steps_per_episode: int  # agent steps
    frames_per_step: int
    frames_per_second: float | None  # of the task's own time; None: it has none


def make_env(config: EnvConfig, seed: int) -> EpisodicEnv:
    """Make the environment that `config` names; its episodes derive from `seed`."""
    task = find_task(config.name)
    module = task.family.module()
    with telling(lambda: f"{config.name} cannot be opened"):
        return module.make(config, seed, task)


def env_info(config: EnvConfig) -> EnvInfo:
    """Sizes of the environment that `config` names, without opening a camera."""
    action_size, proprio_size, rate = _measure(find_task(config.name))
    return EnvInfo(
        action_size=action_size,
        proprio_size=proprio_size if config.proprio else 0,
        image_size=config.image_size,
        steps_per_episode=config.episode_frames // config.action_repeat,
        frames_per_step=config.action_repeat,
        frames_per_second=rate,
    )


@functools.cache
def _measure(task: Task) -> tuple[int, int, float | None]:
    return task.family.module().measure(task)


def render_states(config: EnvConfig, states: np.ndarray) -> np.ndarray:
    """Draw recorded `physics_state`s (T, S) as the environment itself would: (T, H, W, 3) uint8."""
    return revisit(config, states)[0]


def revisit(
    config: EnvConfig, states: np.ndarray, actions: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """`EpisodicEnv.revisit` of an environment made for it."""
    with closing(make_env(config, seed=0)) as env:
        return env.revisit(states, actions)
