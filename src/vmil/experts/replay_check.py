"""Proof that a demonstration is what it says: its actions, played from its states, give its states and its return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vmil.experts.expert import Expert
from vmil.system.arrays import Floats, Floats32


@dataclass(frozen=True)
class Discrepancy:
    """Largest differences between a recording and its replay; all zero when physics is exactly reproducible."""

    open_loop_state: float
    """Over all states, playing every action from where the recording's seed begins."""
    open_loop_return: float
    """Of the return, in the same replay."""
    one_step_state: float
    """Over all steps, each played from its own recorded state."""


def replay_demo(expert: Expert, seed: int, physics: Floats, action: Floats32, reward: Floats32) -> Discrepancy:
    """Play a recording of that seed again; physics (T+1, S), action (T, A), reward (T,)."""
    expert.begin(seed)
    states, rewards, one_step = [expert.state()], [], []
    for act in action:
        rewards.append(expert.execute(act))
        states.append(expert.state())
    for before, act, after in zip(physics[:-1], action, physics[1:], strict=True):
        expert.restore(before)
        expert.execute(act)
        one_step.append(np.abs(expert.state() - after).max())
    return Discrepancy(
        open_loop_state=float(np.abs(np.stack(states) - physics).max()),
        open_loop_return=abs(float(np.sum(rewards)) - float(reward.sum(dtype=np.float64))),
        one_step_state=float(np.max(one_step)),
    )
