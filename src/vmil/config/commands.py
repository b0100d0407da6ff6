"""From what follows a subcommand to its own options and the part of a run's configuration that it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from vmil.config import keys
from vmil.config.load import build, load_config, parse_dotlist
from vmil.config.ranges import check_ranges
from vmil.config.schema import Config
from vmil.errors import UserError

T = TypeVar("T")


def options_of(schema: type[T], overrides: Sequence[str]) -> T:
    """Reads `key=value` into `schema`; UserError for an unknown key, a value of another type, a number out of range."""
    options = build(schema, parse_dotlist(schema, overrides))
    check_ranges(options)
    return options


def split(schema: type[T], overrides: Sequence[str]) -> tuple[T, list[str]]:
    """The command's own options, as `options_of` reads them, and what is left for a run's configuration.

    Raises `UserError` for an own key in capitals, which no key of a run resembles more.
    """
    own = keys.leaves(schema)
    for item in overrides:
        key = item.partition("=")[0]
        if key not in own and key.lower() in own:
            raise UserError(f"unknown key '{key}'{keys.nearest(key, own)}")
    mine = [item for item in overrides if item.partition("=")[0] in own]
    return options_of(schema, mine), [item for item in overrides if item not in mine]


def split_known(schema: type[T], overrides: Sequence[str], read: Sequence[str]) -> tuple[T, list[str]]:
    """As `split`, where only the keys `read` of a run's configuration mean something.

    Raises `UserError` for a key that it would not read, naming the nearest that it does.
    """
    known = [*keys.leaves(schema), *read]
    for item in overrides:
        key, equals, _ = item.partition("=")
        if not equals:
            raise UserError(f"'{item}' is not of the form key=value")
        if key not in known:
            raise UserError(f"unknown key '{key}'{keys.nearest(key, known)}")
    return split(schema, overrides)


def with_config(schema: type[T], overrides: Sequence[str], groups: Sequence[str]) -> tuple[T, Config]:
    """The command's own options, and a run's configuration, of which it reads these groups, or keys, only.

    Raises `UserError` as `split_known`.
    """
    read = ["env", *(key for key in keys.leaves(Config) if {key, key.partition(".")[0]} & set(groups))]
    options, rest = split_known(schema, overrides, read)
    return options, load_config(rest, learns=False)
