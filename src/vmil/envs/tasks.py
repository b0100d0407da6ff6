"""Names of tasks, and what each stands for. Light to import, so that a wrong name answers at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from vmil.config.schema import EnvConfig
from vmil.envs.suite import dmc_task

if TYPE_CHECKING:
    from vmil.envs.episodes import EpisodicEnv


class Task(NamedTuple):
    """What an environment's name stands for."""

    family: Family
    domain: str
    task: str


class EnvModule(Protocol):
    """What the module of a family has."""

    def make(self, config: EnvConfig, seed: int, task: Task) -> EpisodicEnv:
        """The environment; its episodes derive from `seed`."""
        ...

    def measure(self, task: Task) -> tuple[int, int, float | None]:
        """Sizes of the action and of the vector observation; frames a second of the task's own time, None: none."""
        ...


@dataclass(frozen=True)
class Family:
    """Environments of one kind: all that is not theirs alone is read from here."""

    module: Callable[[], EnvModule]  # imports it: simulators settle on an OpenGL, and not all need be installed
    packages: tuple[str, ...]  # what draws and moves it, besides OpenGL: other versions draw other pixels
    draws_itself: bool = False  # without OpenGL
    # Largest error, in the state's units, of an action replayed from a recorded state; None: none are.
    replay_tolerance: float | None = None
    single: bool = False  # there is one, as of a real robot: it is never open twice


def _counting() -> EnvModule:
    from vmil.envs import counting

    return counting


def _dot() -> EnvModule:
    from vmil.envs import dot

    return dot


def _dmc() -> EnvModule:
    from vmil.envs import dmc

    return dmc


def _sawyer() -> EnvModule:
    from vmil.envs import sawyer

    return sawyer


def _baoding() -> EnvModule:
    from vmil.envs import baoding

    return baoding


COUNTING = Family(_counting, packages=(), draws_itself=True)
DOT = Family(_dot, packages=(), draws_itself=True, replay_tolerance=1e-5)  # 1e-7 for float32
# 1e-12 is usual for float64 states, 1e-5 for float32; a wrong action gives 1e-2.
SUITE = Family(_dmc, packages=("mujoco", "dm_control"), replay_tolerance=1e-3)
METAWORLD = Family(_sawyer, packages=("mujoco", "metaworld"), replay_tolerance=1e-3)
# Its states hold accelerations: 0 is usual, 1e-3 for float32; a wrong action gives 1e2.
HAND = Family(_baoding, packages=("mujoco", "gymnasium-robotics"), replay_tolerance=0.1)

# By name; every other name is one of dm_control's suite.
TASKS = {
    "counting": Task(COUNTING, "counting", "counting"),
    "dot": Task(DOT, "dot", "middle"),
    "sawyer": Task(METAWORLD, "metaworld", "peg-insert-side-v3"),
    "baoding": Task(HAND, "adroit", "baoding"),
}


def find_task(name: str) -> Task:
    """Read an environment's name; UserError names the nearest right one."""
    return TASKS[name] if name in TASKS else Task(SUITE, *dmc_task(name, TASKS))


def draws_itself(name: str) -> bool:
    """Whether the environment of that name draws its pixels without OpenGL; a wrong name does not."""
    return name in TASKS and TASKS[name].family.draws_itself


def is_single(name: str) -> bool:
    """Whether there is only one environment of that name, which is never open twice; of a wrong name there is none."""
    return name in TASKS and TASKS[name].family.single
