"""dm_control's suite: its names and how to load it. Light to import, so that a wrong name answers at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from vmil.config.errors import UserError
from vmil.config.suite import PREFIX, SUITE

ALIASES = {"walker": ("walker", "walk"), "cheetah": ("cheetah", "run")}


def dmc_task(name: str, others: Iterable[str] = ()) -> tuple[str, str]:
    """Domain and task of a dm_control environment's name; UserError names the nearest right one, or one of `others`."""
    if name in ALIASES:
        return ALIASES[name]
    if not name.startswith(PREFIX):
        raise UserError(_unknown(name, [*ALIASES, *others, *SUITE]))
    if name not in SUITE:
        raise UserError(_unknown(name, list(SUITE)))
    domain, _, task = name.removeprefix(PREFIX).partition("-")
    return domain, task


def _unknown(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f"unknown env.name {name!r}: did you mean {nearest!r}?"


def import_suite() -> Any:
    """dm_control's suite, imported once OpenGL is chosen: its import settles on one."""
    from vmil.envs.rendering import choose_backend

    choose_backend()
    from dm_control import suite

    return suite


def load_task(domain: str, task: str) -> Any:
    """Load a dm_control environment without a time limit of its own.

    The load-time seed is fixed: where a task draws its very model (lqr), all runs get the same one.
    """
    return import_suite().load(domain, task, task_kwargs={"random": 0, "time_limit": float("inf")})
