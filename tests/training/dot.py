"""A task that is learnt in minutes: move a bright dot to the middle of the picture, and stay there.

It stands in for the counting environment, whose presets and files it takes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.episodes import EpisodicEnv, Outcome, seed_from
from vmil.envs.tasks import Family, Task

STEPS = 20
SPEED = 0.3  # of the way from the middle to the edge, in a step at most
WIDTH = 0.25  # of the dot, on the scale of its places: wide enough for a small model to see within a few updates


class DotEnv(EpisodicEnv):
    """The state is the dot's place in [−1, 1]², an action its velocity, the reward 1 − its distance from the middle."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        super().__init__(config, seed, 2, 0)
        self.place = np.zeros(2)

    def _begin(self) -> None:
        self.place = np.random.default_rng(seed_from(self.run_seed, self.episode)).uniform(-1, 1, 2)

    def _advance(self, action: np.ndarray) -> Outcome:
        self.place = moved(self.place, action)
        return Outcome(reward_at(self.place), terminated=False)

    def _look(self) -> tuple[np.ndarray, None]:
        size = self.config.image_size
        column, row = (np.exp(-(((np.linspace(-1, 1, size) - at) / WIDTH) ** 2) / 2) for at in self.place)
        return np.repeat((255 * np.outer(row, column)).astype(np.uint8)[..., None], 3, 2), None

    def physics_state(self) -> np.ndarray:
        return self.place.copy()

    def _restore(self, state: np.ndarray) -> None:
        self.place = state.copy()


def moved(place: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Where an action leads, (2,)."""
    return np.clip(place + SPEED * action, -1, 1)


def reward_at(place: np.ndarray) -> float:
    """Between 0 in the corners and 1 in the middle."""
    return max(0.0, 1 - float(np.hypot(*place)))


def make(config: EnvConfig, seed: int, task: Task) -> DotEnv:
    return DotEnv(config, seed)


def measure(task: Task) -> tuple[int, int, None]:
    return 2, 0, None


def task() -> Task:
    """The entry for `vmil.envs.tasks.TASKS`."""
    import dot

    return Task(Family(lambda: dot, packages=(), draws_itself=True), "dot", "middle")


def write_demos(directory: Path, count: int = 10) -> None:
    """Demonstrations of the best policy: straight to the middle."""
    directory.mkdir(parents=True)
    meta = {"format": 1, "env": "counting", "domain": "dot", "task": "middle", "action_repeat": 1}
    for index in range(count):
        places, actions = [np.random.default_rng(1000 + index).uniform(-1, 1, 2)], []
        for _ in range(STEPS):
            actions.append(np.clip(-places[-1] / SPEED, -1, 1).astype(np.float32))
            places.append(moved(places[-1], actions[-1]))
        np.savez_compressed(
            directory / f"demo_{index:02d}.npz",
            physics=np.stack(places),
            action=np.stack(actions),
            reward=np.array([reward_at(place) for place in places[1:]], np.float32),
            meta=np.array(json.dumps(meta)),
        )
