"""What the arguments of a command mean that has options of its own and reads a part of a run's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vmil.config import keys
from vmil.config.errors import UserError
from vmil.config.load import build, load_config, parse_dotlist
from vmil.config.schema import Config

T = TypeVar("T")


def with_config(schema: type[T], overrides: Sequence[str], groups: Sequence[str]) -> tuple[T, Config]:
    """The command's own options, and a run's configuration, of which it reads these groups only.

    Raises `UserError` for a key that it would not read, naming the nearest that it does.
    """
    read = ["env", *(key for key in keys.leaves(Config) if key.partition(".")[0] in groups)]
    options, rest = split_known(schema, overrides, read)
    return options, load_config(rest, learns=False)


def split_known(schema: type[T], overrides: Sequence[str], read: Sequence[str]) -> tuple[T, list[str]]:
    """The command's own options, and what is left for a run's configuration, whose keys it `read`s.

    Raises `UserError` for a key that it would not read, naming the nearest that it does.
    """
    own = keys.leaves(schema)
    known = [*own, *read]
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals:
            raise UserError(f"'{item}' is not of the form key=value")
        if key not in known:
            raise UserError(f"unknown key '{key}'{keys.nearest(key, known)}")
    mine = [item for item in overrides if item.partition("=")[0] in own]
    return build(schema, parse_dotlist(schema, mine)), [item for item in overrides if item not in mine]
