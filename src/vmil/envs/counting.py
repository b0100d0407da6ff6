"""An environment whose pixels say which episode and step they are, so that no misalignment can hide."""

from __future__ import annotations

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.envs.episodes import EpisodicEnv, Outcome
from vmil.envs.tasks import Task

ACTION_SIZE = 1
PROPRIO_SIZE = 2


def encode(episode: int, time: int, size: int) -> np.ndarray:
    """The picture of step `time` in `episode`: (size, size, 3) uint8 of (episode % 256, time // 256, time % 256)."""
    image = np.empty((size, size, 3), dtype=np.uint8)
    image[...] = (episode % 256, time // 256, time % 256)
    return image


class CountingEnv(EpisodicEnv):
    """Counts agent steps in its pixels; proprio is (episode, time); the reward is 0 and only the time limit ends it."""

    def __init__(self, config: EnvConfig, seed: int) -> None:
        """Needs neither simulator nor OpenGL; `seed` changes nothing visible."""
        super().__init__(config, seed, ACTION_SIZE, PROPRIO_SIZE)

    def _begin(self) -> None:
        pass

    def _advance(self, action: np.ndarray) -> Outcome:
        return Outcome(reward=0.0, terminated=False)

    def _look(self) -> tuple[np.ndarray, np.ndarray | None]:
        image = encode(self.episode, self.time, self.config.image_size)
        return image, self.physics_state().astype(np.float32) if self.config.proprio else None

    def physics_state(self) -> np.ndarray:
        """(episode, time), float64."""
        return np.array([self.episode, self.time], dtype=np.float64)

    def _restore(self, state: np.ndarray) -> None:
        self.episode, self.time = int(state[0]), int(state[1])


def make(config: EnvConfig, seed: int, task: Task) -> CountingEnv:
    """The environment; its episodes derive from `seed`."""
    return CountingEnv(config, seed)


def measure(task: Task) -> tuple[int, int, float | None]:
    """Sizes of the action and of the vector observation, and frames a second."""
    return ACTION_SIZE, PROPRIO_SIZE, None
