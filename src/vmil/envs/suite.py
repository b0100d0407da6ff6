"""How to load the tasks of dm_control's suite. Light to import, so that a wrong name answers at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vmil.config.suite import suite_task

ALIASES = {"walker": ("walker", "walk"), "cheetah": ("cheetah", "run")}


def dmc_task(name: str, others: Iterable[str] = ()) -> tuple[str, str]:
    """Domain and task of a dm_control environment's name; UserError names the nearest right one, or one of `others`."""
    return ALIASES[name] if name in ALIASES else suite_task(name, [*ALIASES, *others])


def import_suite() -> Any:
    """dm_control's suite, imported once OpenGL is chosen: its import settles on one, even where nothing is drawn."""
    from vmil.envs.rendering import choose_backend

    choose_backend()
    from dm_control import suite

    return suite


def load_task(domain: str, task: str) -> Any:
    """Load a dm_control environment without a time limit of its own.

    The load-time seed is fixed: where a task draws its very model (lqr), all runs get the same one.
    """
    return import_suite().load(domain, task, task_kwargs={"random": 0, "time_limit": float("inf")})
