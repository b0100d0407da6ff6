"""This machine: bench, doctor."""

from __future__ import annotations

from collections.abc import Sequence

from vmil.commands.settings import prepare_opengl
from vmil.errors import FAILED, OK, UserError


def bench(overrides: Sequence[str]) -> int:
    """Measure how fast everything is here, beside a plain reference."""
    from vmil.bench.plan import make_plan

    plan = make_plan(overrides)
    prepare_opengl(plan.run)
    from vmil.bench.command import run_bench

    return OK if run_bench(plan, overrides) else FAILED


def doctor(overrides: Sequence[str]) -> int:
    """Say what this machine has and whether it can render."""
    if overrides:
        raise UserError("doctor takes no settings")
    from vmil.doctor import examine

    return OK if examine(print) else FAILED
