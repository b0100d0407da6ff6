"""dm_control tasks as an expert sees them: state in, no pixels, deterministic episodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vmil.envs.suite import import_suite
from vmil.errors import UserError
from vmil.experts.actor import ActorSpec, Policy
from vmil.system.arrays import Floats32

if TYPE_CHECKING:
    from dm_control.rl.control import Environment
    from dm_env import TimeStep


def load_seeded_task(domain: str, task: str, seed: int) -> Environment:
    """Return dm_control's environment; `seed` decides its sequence of initial states."""
    env: Environment = import_suite().load(domain, task, task_kwargs={"random": seed})
    return env


def describe_task(domain: str, task: str, hidden: int, action_repeat: int) -> ActorSpec:
    """Return the sizes of an actor for this task; UserError unless its actions are in [-1, 1], as tanh's are."""
    env = load_seeded_task(domain, task, seed=0)
    observation = env.observation_spec()
    obs_dim = sum(int(np.prod(leaf.shape)) for leaf in observation.values())  # a scalar counts as one
    actions = env.action_spec()
    env.close()
    if not (np.all(actions.minimum == -1) and np.all(actions.maximum == 1)):
        raise UserError(f"{domain}-{task} cannot be learnt by this expert: its actions are not in [-1, 1]")
    return ActorSpec(domain, task, tuple(observation), obs_dim, int(actions.shape[0]), hidden, action_repeat)


def repeat_action(env: Environment, action: Floats32, times: int) -> tuple[TimeStep, float]:
    """Apply one action for `times` frames or until the episode ends; return the last step and the summed reward."""
    step, reward = env.step(action), 0.0
    for _ in range(times - 1):
        reward += float(step.reward or 0.0)
        if step.last():
            return step, reward
        step = env.step(action)
    return step, reward + float(step.reward or 0.0)


def score_episodes(policy: Policy, spec: ActorSpec, episodes: int, seed: int) -> list[float]:
    """Return the undiscounted return of each episode; episode i starts from seed + i."""
    return [_score_episode(policy, spec, seed + episode) for episode in range(episodes)]


def _score_episode(policy: Policy, spec: ActorSpec, seed: int) -> float:
    env = load_seeded_task(spec.domain, spec.task, seed)
    step, total = env.reset(), 0.0
    while not step.last():
        step, reward = repeat_action(env, policy(step.observation), spec.action_repeat)
        total += reward
    env.close()
    return total
