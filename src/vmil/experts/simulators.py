"""Many copies of one dm_control task, stepped together: what an on-policy learner collects from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vmil.experts.actor import ActorSpec
from vmil.experts.state_task import load_task, repeat_action

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


class Simulators:
    """N environments in one process; whoever reaches the end of an episode is reset at once."""

    def __init__(self, spec: ActorSpec, count: int, seed: int, spread: int) -> None:
        """Start N episodes, of initial states that derive from `seed`.

        spread: agent steps of a whole episode. The first episode of each environment is broken off early, evenly
        between 1 and that many, so that from then on the N are never all at the same time of an episode.
        """
        self._spec = spec
        self._envs = [load_task(spec.domain, spec.task, seed + index) for index in range(count)]
        self._left = [max(1, spread * (index + 1) // count) for index in range(count)]
        self.observation: Floats = np.stack([self._flat(env.reset().observation) for env in self._envs])  # (N, O)

    def step(self, actions: Floats) -> tuple[Floats, Floats, Flags, Flags]:
        """Act (N, A) in [-1, 1]: the state it leads to (N, O), rewards (N,) of the whole repeat, done and terminated.

        `observation` is then what to act on next: of an episode that is done, the first of the one after it.
        """
        following = np.empty_like(self.observation)
        rewards = np.empty(len(self._envs), np.float32)
        done, terminated = (np.zeros(len(self._envs), np.bool_) for _ in range(2))
        for index, env in enumerate(self._envs):
            step, rewards[index] = repeat_action(env, actions[index], self._spec.action_repeat)
            self._left[index] -= 1
            following[index] = self._flat(step.observation)
            terminated[index] = step.last() and step.discount == 0
            done[index] = step.last() or self._left[index] == 0
            if done[index]:
                self._left[index] = -1  # from now on the task's own time limit ends an episode
                step = env.reset()
            self.observation[index] = self._flat(step.observation)
        return following, rewards, done, terminated

    def close(self) -> None:
        """Free the simulators."""
        for env in self._envs:
            env.close()

    def _flat(self, observation: dict[str, npt.NDArray[np.float64]]) -> Floats:
        return np.concatenate([np.ravel(observation[key]) for key in self._spec.obs_keys]).astype(np.float32)
