"""Do imported actions explain imported physics states? If not: would they with another repeat, or one step off?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np

from vmil.config.errors import NonFiniteError, UserError
from vmil.config.schema import EnvConfig
from vmil.data.formats.checks import REPEATS, Findings
from vmil.data.formats.source import SourceEpisode
from vmil.envs.dmc import action_map
from vmil.envs.factory import make_env
from vmil.envs.suite import load_task
from vmil.envs.tasks import SUITE, find_task

STEPS = 20  # that are replayed, each from its own recorded state


class Simulator(Protocol):
    """What can go on from a recorded state."""

    size: int  # S
    tolerance: float  # below which an error counts as none

    def after(self, state: np.ndarray, action: np.ndarray, repeat: int) -> np.ndarray:
        """The state (S,) that an action (A,), held for `repeat` frames, leads to; infinite where it blows up."""
        ...

    def close(self) -> None:
        """Frees it."""
        ...


class SuiteSimulator:
    """A task of dm_control's, without a camera."""

    def __init__(self, domain: str, task: str, tolerance: float) -> None:
        self._control = load_task(domain, task)
        self._centre, self._half = action_map(self._control)
        self.size, self.tolerance = len(self._control.physics.get_state()), tolerance

    def after(self, state: np.ndarray, action: np.ndarray, repeat: int) -> np.ndarray:
        """As `Simulator`."""
        from dm_control.rl.control import PhysicsError

        control = self._control
        try:
            control.reset()
            with control.physics.reset_context():
                control.physics.set_state(state)
            for _ in range(repeat):
                control.step(self._centre + self._half * np.clip(action, -1.0, 1.0))
        except PhysicsError:  # an impossible state
            return np.full(self.size, np.inf)
        return np.array(control.physics.get_state())

    def close(self) -> None:
        """As `Simulator`."""
        self._control.physics.free()


class WorldSimulator:
    """An environment of ours whose episodes can go on from a recorded state, one frame at a time."""

    def __init__(self, env: EnvConfig, tolerance: float) -> None:
        frames = max(env.action_repeat, *REPEATS) + 1  # no time limit while an action is held
        self._world = make_env(replace(env, action_repeat=1, episode_frames=frames), seed=0)
        self._world.open_episode()
        self.size, self.tolerance = len(self._world.physics_state()), tolerance

    def after(self, state: np.ndarray, action: np.ndarray, repeat: int) -> np.ndarray:
        """As `Simulator`."""
        try:
            with np.errstate(all="ignore"):
                self._world.restore(state)
                for _ in range(repeat):
                    self._world.advance(action)
        except (NonFiniteError, ArithmeticError, ValueError, AssertionError):  # an impossible state
            return np.full(self.size, np.inf)
        after = self._world.physics_state()
        # Nothing at all moved: the simulation blew up, and was put back.
        return np.full(self.size, np.inf) if np.array_equal(after, state) else after

    def close(self) -> None:
        """As `Simulator`."""
        self._world.close()


class Replayer:
    """Replays the first actions of one task's episodes; its simulator is opened by the first that holds states."""

    def __init__(self, env: EnvConfig) -> None:
        self._env = env
        self._opened: Simulator | str | None = None  # or why there is none

    def check(self, episode: SourceEpisode, found: Findings) -> None:
        """Adds to `found` what replaying an episode's actions from its physics states says; nothing without states."""
        if episode.physics is None or found.refused:
            return
        if self._opened is None:
            self._opened = _open(self._env)
        if isinstance(self._opened, str):
            found.warnings.append(f"not replayed: {self._opened}")
        elif episode.physics.shape[1] != self._opened.size:
            found.refused.append(
                f"physics states of {episode.physics.shape[1]} numbers, the task's have {self._opened.size}"
            )
        elif len(episode.physics) < 2:
            found.warnings.append("not replayed: a single state")
        else:
            _replay(self._opened, episode, self._env.action_repeat, found)

    def close(self) -> None:
        """Frees the simulator."""
        if self._opened is not None and not isinstance(self._opened, str):
            self._opened.close()


def _open(env: EnvConfig) -> Simulator | str:
    task = find_task(env.name)
    tolerance = task.family.replay_tolerance
    if tolerance is None:
        return "nothing here replays this task"
    if task.family is SUITE:
        return SuiteSimulator(task.domain, task.task, tolerance)
    try:
        return WorldSimulator(env, tolerance)
    except UserError as error:
        return str(error)


def _replay(simulator: Simulator, episode: SourceEpisode, repeat: int, found: Findings) -> None:
    error = float(np.max([*_errors(simulator, episode, repeat, shift=0)]))  # not max(), which passes over NaN
    if error <= simulator.tolerance:
        found.warnings.append(f"replays (error {error:.0e})")
    else:
        said = f"its actions do not lead from state to state (error {error:.1e})"
        found.refused.append(said + _cause(simulator, episode, repeat))


def _cause(simulator: Simulator, episode: SourceEpisode, repeat: int) -> str:
    """The first other reading of the actions under which they do lead from state to state, as the end of a sentence."""
    places = {0: "taken where they are", 1: "taken one step earlier: alignment=led_to", -1: "taken one step later"}
    for shift, place in places.items():
        for other in (repeat, *(each for each in REPEATS if each != repeat)):
            errors = _errors(simulator, episode, other, shift)
            if next(errors, np.inf) <= simulator.tolerance and all(error <= simulator.tolerance for error in errors):
                return f", but they do with action_repeat={other}, {place}"
    return ""


def _errors(simulator: Simulator, episode: SourceEpisode, repeat: int, shift: int) -> Iterator[float]:
    """The errors of single steps from recorded states, if action t + shift is the one taken at state t."""
    states, actions = np.asarray(episode.physics, np.float64), episode.action
    first = max(0, -shift)  # the first state whose action is known
    last = min(STEPS, len(states) - 2, len(actions) - 1 - max(0, shift))
    for t in range(first, last + 1):
        yield float(np.abs(simulator.after(states[t], actions[t + shift], repeat) - states[t + 1]).max())
