"""Do imported actions explain imported physics states? If not: would they with another repeat, or one step off?"""

from __future__ import annotations

from typing import Any

import numpy as np

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig
from vmil.data.formats.checks import REPEATS, Findings
from vmil.data.formats.source import SourceEpisode
from vmil.envs.dmc import action_map
from vmil.envs.suite import dmc_task, load_task

STEPS = 20  # that are replayed, each from its own recorded state
TOLERANCE = 1e-3  # in the state's units: 1e-12 is usual for float64 states, 1e-5 for float32; a wrong action gives 1e-2


def check_replay(episode: SourceEpisode, env: EnvConfig, found: Findings) -> None:
    """Adds to `found` what replaying an episode's first actions from its physics states says.

    Says nothing without states, and of tasks that are not dm_control's.
    """
    task = _dmc_task(env.name)
    if episode.physics is None or task is None or found.refused or len(episode.action) < 3:
        return
    control = load_task(*task)
    try:
        size = len(control.physics.get_state())
        if episode.physics.shape[1] != size:
            found.refused.append(f"physics states of {episode.physics.shape[1]} numbers, the task's have {size}")
            return
        error = _one_step_error(control, episode, env.action_repeat, shift=0)
        if error <= TOLERANCE:
            found.warnings.append(f"replays (error {error:.0e})")
            return
        said = f"its actions do not lead from state to state (error {error:.1e})"
        found.refused.append(said + _cause(control, episode, env.action_repeat))
    finally:
        control.physics.free()


def _dmc_task(name: str) -> tuple[str, str] | None:
    try:
        return dmc_task(name)
    except UserError:
        return None


def _cause(control: Any, episode: SourceEpisode, repeat: int) -> str:
    """The first other reading of the actions under which they do lead from state to state, as the end of a sentence."""
    places = {0: "taken where they are", 1: "taken one step earlier: alignment=led_to", -1: "taken one step later"}
    for shift, place in places.items():
        for other in (repeat, *(each for each in REPEATS if each != repeat)):
            if _one_step_error(control, episode, other, shift) <= TOLERANCE:
                return f", but they do with action_repeat={other}, {place}"
    return ""


def _one_step_error(control: Any, episode: SourceEpisode, repeat: int, shift: int) -> float:
    """Largest error over single steps from recorded states, if action t + shift is the one taken at state t."""
    states, actions = np.asarray(episode.physics, np.float64), episode.action
    centre, half = action_map(control)
    first = max(0, -shift)  # the first state whose action is known
    last = min(STEPS, len(states) - 2, len(actions) - 1 - max(0, shift))
    errors = []
    for t in range(first, last + 1):
        control.reset()
        with control.physics.reset_context():
            control.physics.set_state(states[t])
        for _ in range(repeat):
            control.step(centre + half * np.clip(actions[t + shift], -1.0, 1.0))
        errors.append(np.abs(control.physics.get_state() - states[t + 1]).max())
    return float(np.max(errors))
