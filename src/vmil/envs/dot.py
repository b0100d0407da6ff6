"""A task that is learnt in a minute or two, without a simulator: bring a bright dot to the middle and keep it there."""

from __future__ import annotations

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.episodes import EpisodicEnv, Outcome, seed_from
from vmil.envs.tasks import Task
from vmil.system.arrays import Floats

ACTION_SIZE = 2
SPEED = 0.3  # of the way from the middle to the edge, in a step at most
WIDTH = 0.25  # of the dot, on the scale of its places: wide enough for a small model to see within a few updates


class DotEnv(EpisodicEnv):
    """The state is the dot's place in [−1, 1]², an action its velocity, the reward 1 − its distance from the middle."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """The dot begins each episode in another place."""
        super().__init__(config, seed, ACTION_SIZE, 0)
        self.place: Floats = np.zeros(2)

    def _begin(self) -> None:
        self.place = np.random.default_rng(seed_from(self.run_seed, self.episode)).uniform(-1, 1, 2)

    def _advance(self, action: np.ndarray) -> Outcome:
        reward = 0.0
        for _ in range(self.config.action_repeat):
            self.place = np.clip(self.place + SPEED * action, -1, 1)
            reward += max(0.0, 1 - float(np.hypot(*self.place)))
        return Outcome(reward, terminated=False)

    def _look(self) -> tuple[np.ndarray, None]:
        scale = np.linspace(-1, 1, self.config.image_size)
        column, row = (np.exp(-(((scale - at) / WIDTH) ** 2) / 2) for at in self.place)
        return np.repeat((255 * np.outer(row, column)).astype(np.uint8)[..., None], 3, 2), None

    def physics_state(self) -> np.ndarray:
        """The dot's place, (2,) float64: to the right and down, the edges at ±1."""
        return self.place.copy()

    def _restore(self, state: np.ndarray) -> None:
        self.place = np.array(state, dtype=np.float64)


def make(config: EnvConfig, seed: int, task: Task) -> DotEnv:
    """The environment; its episodes derive from `seed`."""
    return DotEnv(config, seed)


def measure(task: Task) -> tuple[int, int, float | None]:
    """Sizes of the action and of the vector observation, and frames a second."""
    return ACTION_SIZE, 0, None
