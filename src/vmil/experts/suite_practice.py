"""dm_control as an expert's learner practises it: many copies of one task, stepped together."""

from __future__ import annotations

import numpy as np
from torch import nn

from vmil.experts.actor import ActorSpec, deterministic_policy
from vmil.experts.practice import Flags, first_lengths
from vmil.experts.state_task import load_seeded_task, repeat_action, score_episodes
from vmil.system.arrays import Floats, Floats32

EPISODE_FRAMES = 1000  # of dm_control's tasks
EVAL_SEED = 10_000  # initial states for choosing the best actor


class SuitePractice:
    """One dm_control task."""

    def __init__(self, spec: ActorSpec) -> None:
        self.spec = spec

    def simulators(self, count: int, seed: int, frames: int) -> SuiteSimulators:
        """Start so many; they are the same however much was seen."""
        return SuiteSimulators(self.spec, count, seed, EPISODE_FRAMES // self.spec.action_repeat)

    def score(self, net: nn.Module, episodes: int) -> list[float]:
        """Returns of deterministic episodes."""
        return score_episodes(deterministic_policy(net, self.spec), self.spec, episodes, EVAL_SEED)


class SuiteSimulators:
    """N environments in one process."""

    def __init__(self, spec: ActorSpec, count: int, seed: int, spread: int) -> None:
        """Start N episodes, of initial states that derive from `seed`.

        spread: agent steps of a whole episode; first ones are broken off early, as `first_lengths` says.
        """
        self._spec = spec
        self._envs = [load_seeded_task(spec.domain, spec.task, seed + index) for index in range(count)]
        self._left = first_lengths(count, spread)
        self.observation: Floats32 = np.stack([self._flat(env.reset().observation) for env in self._envs])  # (N, O)

    def step(self, actions: Floats32) -> tuple[Floats32, Floats32, Flags, Flags]:
        """Act (N, A) in [-1, 1]: the states after it (N, O), rewards (N,) of the whole repeat, done and terminated."""
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

    def _flat(self, observation: dict[str, Floats]) -> Floats32:
        return np.concatenate([np.ravel(observation[key]) for key in self._spec.obs_keys]).astype(np.float32)
