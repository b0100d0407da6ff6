"""Experts and demonstrations: make, record, import, export."""

from __future__ import annotations

from collections.abc import Sequence

from vmil.commands.settings import prepare_opengl
from vmil.config.commands import options_of, with_config
from vmil.config.schema_cli import (
    CheetahExpertOptions,
    DemosOptions,
    ExpertOptions,
    ExportOptions,
    ImportOptions,
    PlannedDemosOptions,
    PlannedExpertOptions,
)
from vmil.errors import OK, UserError

# Options by the task that they are of; "": any other task.
EXPERTS: dict[str, type[ExpertOptions | PlannedExpertOptions]] = {
    "": ExpertOptions,
    "cheetah": CheetahExpertOptions,
    "baoding": PlannedExpertOptions,
}
RECORDED: dict[str, type[DemosOptions]] = {"": DemosOptions, "baoding": PlannedDemosOptions}


def expert(overrides: Sequence[str]) -> int:
    """Train a state-based expert, or measure one that needs no training."""
    options = options_of(EXPERTS.get(_env(overrides), EXPERTS[""]), overrides)
    from vmil.experts import commands

    print(commands.prepare(options))
    return OK


def demos(overrides: Sequence[str]) -> int:
    """Record demonstrations of an expert, episode i from seed + i: take seeds of two sets further apart than count."""
    options = options_of(RECORDED.get(_env(overrides), RECORDED[""]), overrides)
    from vmil.experts import commands

    print(commands.record(options))
    return OK


def _env(overrides: Sequence[str]) -> str:
    """The environment that is asked for, on which an expert's settings depend; empty: the default one."""
    return next((one.removeprefix("env=") for one in reversed(overrides) if one.startswith("env=")), "")


def import_demos(overrides: Sequence[str]) -> int:
    """Convert demonstrations from other software, and verify them."""
    options, config = with_config(ImportOptions, overrides, ("env", "algo", "training.batch_length"))
    if options.src is None:
        raise UserError("import-demos needs src=<a file, a directory, or the id of a Minari dataset>")
    prepare_opengl(config)
    from vmil.exchange import import_demos as command

    command.import_demos(options, config)
    return OK


def export_demos(overrides: Sequence[str]) -> int:
    """Write demonstrations in a format that other software reads."""
    options, config = with_config(ExportOptions, overrides, ("env", "demos", "seed"))
    prepare_opengl(config)
    from vmil.exchange import export_demos as command

    command.export_demos(options, config)
    return OK
