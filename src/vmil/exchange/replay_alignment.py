"""Do imported actions explain imported physics states? If not: would they with another repeat, or one step off?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vmil.config.schema import EnvConfig
from vmil.data.formats.checks import REPEATS, Findings
from vmil.data.formats.source import SourceEpisode
from vmil.envs.factory import make_env
from vmil.envs.tasks import find_task
from vmil.errors import EnvError, NonFiniteError, UserError

STEPS = 20  # that are replayed, each from its own recorded state


class Simulator:
    """The task's environment, which goes on from recorded states one frame at a time and draws nothing."""

    def __init__(self, env: EnvConfig, tolerance: float) -> None:
        """tolerance: below which an error counts as none, in the state's units."""
        frames = max(env.action_repeat, *REPEATS) + 1  # no time limit while an action is held
        self._env = make_env(replace(env, action_repeat=1, episode_frames=frames), seed=0)
        self._env.open_episode()
        self.size, self.tolerance = len(self._env.physics_state()), tolerance

    def after(self, state: np.ndarray, action: np.ndarray, repeat: int) -> np.ndarray:
        """The state (S,) that an action (A,), held for `repeat` frames, leads to; infinite where it blows up."""
        try:
            with np.errstate(all="ignore"):
                self._env.restore(state)
                for _ in range(repeat):
                    if not self._env.over:  # the task may end before
                        self._env.advance(action)
        except (UserError, NonFiniteError, EnvError, ArithmeticError, ValueError, AssertionError):
            return np.full(self.size, np.inf)  # an impossible state
        return np.full(self.size, np.inf) if self._env.diverged else self._env.physics_state()

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


class Replayer:
    """Replays the first actions of one task's episodes; its simulator is opened by the first that holds states."""

    def __init__(self, env: EnvConfig) -> None:
        self._env = env
        self._simulator: Simulator | None = None
        self._unavailable = ""  # why there is none

    def check(self, episode: SourceEpisode, found: Findings) -> None:
        """Adds to `found` what replaying an episode's actions from its physics states says; nothing without states."""
        if episode.physics is None or found.refused:
            return
        simulator = self._open()
        if simulator is None:
            found.warnings.append(f"not replayed: {self._unavailable}")
        elif episode.physics.shape[1] != simulator.size:
            found.refused.append(
                f"physics states of {episode.physics.shape[1]} numbers, the task's have {simulator.size}"
            )
        elif len(episode.physics) < 2:
            found.warnings.append("not replayed: a single state")
        else:
            _replay(simulator, episode, self._env.action_repeat, found)

    def _open(self) -> Simulator | None:
        tolerance = find_task(self._env.name).family.replay_tolerance
        if tolerance is None:
            self._unavailable = "nothing here replays this task"
        elif self._simulator is None and not self._unavailable:
            try:
                self._simulator = Simulator(self._env, tolerance)
            except UserError as error:
                self._unavailable = str(error)
        return self._simulator

    def close(self) -> None:
        """Frees the simulator."""
        if self._simulator is not None:
            self._simulator.close()


def _replay(simulator: Simulator, episode: SourceEpisode, repeat: int, found: Findings) -> None:
    error = float(np.max([*_errors(simulator, episode, repeat, shift=0)]))  # not max(), which passes over NaN
    if error <= simulator.tolerance:
        found.replayed = True
        found.warnings.append(f"replays (error {error:.0e})")
    else:
        said = f"its actions do not lead from state to state (error {error:.1e})"
        found.refused.append(said + _cause(simulator, episode, repeat))


def _cause(simulator: Simulator, episode: SourceEpisode, repeat: int) -> str:
    """The first other reading of the actions under which they do lead from state to state, as the end of a sentence."""
    earlier = "taken one step earlier"
    if episode.physics is not None and len(episode.physics) == len(episode.action):  # else led_to does not fit them
        earlier += ": alignment=led_to"
    places = {0: "taken where they are", 1: earlier, -1: "taken one step later"}
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
