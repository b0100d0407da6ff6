"""Planned episodes on disk, a file each: what was stopped goes on where it was, and a success becomes a demonstration.

`attempts/attempt_000.npz` has the layout of a demonstration. Attempt i is episode i of the environment's seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vmil.config.errors import UserError
from vmil.envs.baoding import BaodingEnv
from vmil.experts.plan import Attempt, Planner, play
from vmil.experts.replay_check import Replay

MAX_ATTEMPTS = 1000


def save_attempt(path: Path, attempt: Attempt) -> None:
    """Write it; the file appears whole or not at all."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        meta = np.array(json.dumps(attempt.meta))
        np.savez_compressed(file, physics=attempt.physics, action=attempt.action, reward=attempt.reward, meta=meta)
    part.replace(path)


def load_attempt(path: Path) -> Attempt:
    """Read what `save_attempt` wrote; UserError if it is something else."""
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"][()]))
            return Attempt(file["physics"], file["action"], file["reward"], meta)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete it, and it is planned again") from error


def run_attempts(
    directory: Path,
    env: BaodingEnv,
    planner: Planner,
    settings: dict[str, Any],
    enough: Callable[[list[Attempt]], bool],
    give_up: bool,
    on_step: Callable[[str], None] = lambda text: None,
) -> list[Attempt]:
    """Plan episodes 0, 1, 2, ... until there are `enough`; those that lie in `directory` already are read.

    settings: what they depend on besides the seed; a directory of other settings or another seed is refused.
    give_up: an episode ends as soon as it cannot succeed any more.
    UserError after a thousand attempts.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made_by = {**settings, "give_up": give_up}
    attempts: list[Attempt] = []
    while not enough(attempts):
        if len(attempts) >= MAX_ATTEMPTS:
            raise UserError(f"{MAX_ATTEMPTS} attempts are not enough: change the planner's settings")
        path = directory / f"attempt_{len(attempts):03d}.npz"
        if path.exists():
            attempt = load_attempt(path)
            if (attempt.meta.get("planner"), attempt.meta.get("seed")) != (made_by, env.run_seed):
                raise UserError(f"{path} was planned with other settings or another seed: choose another out=")
        else:
            attempt = play(env, planner, len(attempts), give_up, on_step)
            attempt.meta["planner"] = made_by
            save_attempt(path, attempt)
        attempts.append(attempt)
    return attempts


def replay_attempt(env: BaodingEnv, attempt: Attempt) -> Replay:
    """Play its actions again: the whole episode from its start, and each step from its own recorded state."""
    hand, physics = env.hand, attempt.physics
    env.set_episode(attempt.meta["episode"])
    env.open_episode()
    states, rewards = [env.physics_state()], []
    for action in attempt.action:
        rewards.append(env.advance(action).reward)
        states.append(env.physics_state())
    one_step = []
    for before, action, after in zip(physics[:-1], attempt.action, physics[1:], strict=True):
        hand.restore(before)
        hand.control(action.astype(np.float64))
        one_step.append(np.abs(hand.state() - after).max())
    return Replay(
        open_loop_state=float(np.abs(np.stack(states) - physics).max()),
        open_loop_return=abs(float(np.sum(rewards)) - float(attempt.reward.sum(dtype=np.float64))),
        one_step_state=float(np.max(one_step)),
    )
