"""Do imported actions explain imported physics states? If not: would they with another repeat, or one step off?"""

from __future__ import annotations

import numpy as np

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig
from vmil.data.formats.checks import REPEATS, Findings
from vmil.data.formats.source import SourceEpisode
from vmil.envs.factory import dmc_task
from vmil.experts.replay_check import replay_demo

STEPS = 25  # that are replayed, each from its own recorded state
TOLERANCE = 1e-3  # in the state's units: 1e-12 is usual for float64 states, 1e-5 for float32; a wrong action gives 1e-2


def check_replay(episode: SourceEpisode, env: EnvConfig, found: Findings) -> None:
    """Adds to `found` what replaying an episode's first actions from its physics states says; nothing without them."""
    physics, action = episode.physics, episode.action
    if physics is None or env.name == "counting" or found.refused or len(action) < 3:
        return
    try:
        error = _one_step_error(env, physics, action, env.action_repeat, shift=0)
    except UserError as problem:
        found.refused.append(str(problem))
        return
    if error <= TOLERANCE:
        found.warnings.append(f"replays (error {error:.0e})")
        return
    candidates = [(repeat, shift) for shift in (0, 1, -1) for repeat in sorted({env.action_repeat, *REPEATS})]
    errors = {which: _one_step_error(env, physics, action, *which) for which in candidates}
    repeat, shift = min(errors, key=lambda which: errors[which])
    found.refused.append(
        f"its actions do not lead from state to state (error {error:.1e})" + _cause(errors, repeat, shift)
    )


def _cause(errors: dict[tuple[int, int], float], repeat: int, shift: int) -> str:
    if errors[repeat, shift] > TOLERANCE:
        return ""
    place = {0: "taken where they are", 1: "taken one step earlier: alignment=led_to", -1: "taken one step later"}[
        shift
    ]
    return f", but they do with action_repeat={repeat}, {place}"


def _one_step_error(env: EnvConfig, physics: np.ndarray, action: np.ndarray, repeat: int, shift: int) -> float:
    """Largest error of a step, if the action at index t + shift is the one taken at state t; UserError if not ours."""
    states = np.asarray(physics, np.float64)[: STEPS + 2]
    begin = 1 if shift < 0 else 0  # the first state whose action is known
    count = min(STEPS, len(states) - 1 - begin, len(action) - max(shift, 0))
    states = states[begin : begin + count + 1]
    taken = action[begin + shift : begin + shift + count]
    try:
        domain, task = dmc_task(env.name)
        return replay_demo(domain, task, repeat, states, taken, np.zeros(count, np.float32)).one_step_state
    except ValueError as error:  # dm_control's, for states of another size
        raise UserError(f"its physics states of {physics.shape[1]} numbers are not {env.name}'s") from error
