"""From what follows a subcommand to its options; checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vmil.config import keys
from vmil.config.errors import UserError
from vmil.config.load import build, parse_dotlist
from vmil.config.schema import Config

OK, FAILED = 0, 1  # exit codes; what else there is, is raised (see cli.py)
T = TypeVar("T")


def options_of(schema: type[T], overrides: Sequence[str]) -> T:
    """Reads `key=value` into `schema`; UserError for an unknown key or a value of another type."""
    return build(schema, parse_dotlist(schema, overrides))


def split(schema: type[T], overrides: Sequence[str]) -> tuple[T, list[str]]:
    """Takes the keys of `schema` out of `overrides`; the rest is for the run's configuration."""
    own = keys.leaves(schema)
    mine = [item for item in overrides if item.partition("=")[0] in own]
    return options_of(schema, mine), [item for item in overrides if item not in mine]


def at_least_one(key: str, value: int | None) -> None:
    """UserError if there is a value and it is less."""
    if value is not None and value < 1:
        raise UserError(f"{key}={value} is outside [1, inf)")


def prepare_opengl(config: Config) -> None:
    """Chooses OpenGL before torchrl is imported: that imports mujoco, where a wrong MUJOCO_GL ends in a traceback."""
    from vmil.envs.rendering import prepare_rendering  # light: numpy only

    prepare_rendering(config.env)
