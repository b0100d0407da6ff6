"""Names of tasks: those of dm_control's suite are listed, so that a wrong one is answered before MuJoCo is imported."""

from __future__ import annotations

import re
from collections.abc import Collection

from vmil.config import keys
from vmil.errors import UserError

PREFIX = "dmc:"

# dm_control 1.0.28's `suite.ALL_TASKS`, by domain.
_TASKS = {
    "acrobot": ("swingup", "swingup_sparse"),
    "ball_in_cup": ("catch",),
    "cartpole": ("balance", "balance_sparse", "swingup", "swingup_sparse", "three_poles", "two_poles"),
    "cheetah": ("run",),
    "dog": ("fetch", "run", "stand", "trot", "walk"),
    "finger": ("spin", "turn_easy", "turn_hard"),
    "fish": ("swim", "upright"),
    "hopper": ("hop", "stand"),
    "humanoid": ("run", "run_pure_state", "stand", "walk"),
    "humanoid_CMU": ("run", "stand", "walk"),
    "lqr": ("lqr_2_1", "lqr_6_2"),
    "manipulator": ("bring_ball", "bring_peg", "insert_ball", "insert_peg"),
    "pendulum": ("swingup",),
    "point_mass": ("easy", "hard"),
    "quadruped": ("escape", "fetch", "run", "walk"),
    "reacher": ("easy", "hard"),
    "stacker": ("stack_2", "stack_4"),
    "swimmer": ("swimmer15", "swimmer6"),
    "walker": ("run", "stand", "walk"),
}
SUITE = tuple(f"{PREFIX}{domain}-{task}" for domain, tasks in _TASKS.items() for task in tasks)


def suite_task(name: str, others: Collection[str]) -> tuple[str, str]:
    """Domain and task of `dmc:<domain>-<task>`; UserError for any other name, naming the nearest right one.

    others: names of tasks that are not of the suite, or have one of their own.
    """
    if name in SUITE:
        domain, _, task = name.removeprefix(PREFIX).partition("-")
        return domain, task
    if not name.startswith(PREFIX):
        listed = f"{', '.join(sorted(others))}, {PREFIX}<domain>-<task>"
        raise UserError(f"unknown env '{name}' (known: {listed}){keys.nearest(name, [*others, *SUITE])}")
    if not re.fullmatch(rf"{PREFIX}[A-Za-z0-9_]+-[A-Za-z0-9_]+", name):
        raise UserError(f"env '{name}' is not of the form {PREFIX}<domain>-<task>, such as {PREFIX}cartpole-swingup")
    raise UserError(f"unknown env '{name}': dm_control has no such task{keys.nearest(name, SUITE)}")
