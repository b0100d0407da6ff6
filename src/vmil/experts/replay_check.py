"""Proof that a demonstration is what it says: its actions, played from its states, give its states and its return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vmil.experts.actor import Action
from vmil.experts.state_task import load_task, repeat_action

if TYPE_CHECKING:
    from dm_control.rl.control import Environment

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Replay:
    """Largest differences between a recording and its replay; all zero when physics is exactly reproducible."""

    open_loop_state: float
    """Over all states, playing every action from the first state."""
    open_loop_return: float
    """Of the return, in the same replay."""
    one_step_state: float
    """Over all steps, each played from its own recorded state."""


def replay_demo(
    domain: str, task: str, action_repeat: int, physics: FloatArray, action: Action, reward: npt.NDArray[np.float32]
) -> Replay:
    """Play a recording again; physics (T+1, S), action (T, A), reward (T,)."""
    env = load_task(domain, task, seed=0)
    restart(env, physics[0])
    states, rewards, one_step = [physics[0]], [], []
    for act in action:
        rewards.append(repeat_action(env, act, action_repeat)[1])
        states.append(env.physics.get_state().copy())
    for before, act, after in zip(physics[:-1], action, physics[1:], strict=True):
        restart(env, before)
        repeat_action(env, act, action_repeat)
        one_step.append(np.abs(env.physics.get_state() - after).max())
    env.close()
    return Replay(
        open_loop_state=float(np.abs(np.stack(states) - physics).max()),
        open_loop_return=abs(float(np.sum(rewards)) - float(reward.sum(dtype=np.float64))),
        one_step_state=float(np.max(one_step)),
    )


def restart(env: Environment, state: FloatArray) -> None:
    """Begin an episode in the given physics state (S,)."""
    env.reset()  # so that the time limit counts from here; its random initial state is overwritten
    with env.physics.reset_context():
        env.physics.set_state(state)
