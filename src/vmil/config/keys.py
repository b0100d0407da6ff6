"""The dotted names of a typed configuration, what each may hold, and the nearest right one to a wrong one."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

Scalar: TypeAlias = str | int | float | bool | None

_NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


def leaves(schema: type, extras: bool = False) -> Mapping[str, Any]:
    """Every leaf of a nested dataclass type as {"world_model.deter": int, ...}, in declaration order; read-only.

    extras: Annotated[int, ...] where the leaf is declared so.
    """
    return _leaves(schema, "", extras)


@functools.cache  # reading a configuration asks thousands of times, and type hints are slow to resolve
def _leaves(schema: Any, prefix: str, extras: bool) -> Mapping[str, Any]:
    hints = get_type_hints(schema, include_extras=extras)
    found: dict[str, Any] = {}
    for item in dataclasses.fields(schema):
        hint = hints[item.name]
        if dataclasses.is_dataclass(hint):
            found.update(_leaves(hints[item.name], f"{prefix}{item.name}.", extras))
        else:
            found[prefix + item.name] = hint
    return MappingProxyType(found)


def sections(schema: type) -> set[str]:
    """Every prefix of a leaf: the names that hold other names."""
    return {key.rpartition(".")[0] for key in leaves(schema) if "." in key}


def flatten(config: Any, prefix: str = "") -> dict[str, Scalar]:
    """Every leaf of a nested dataclass *instance* as {"world_model.deter": 200, ...}."""
    flat: dict[str, Scalar] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value, f"{prefix}{item.name}."))
        else:
            flat[prefix + item.name] = value
    return flat


def typed(value: object) -> str:
    """A value as a person types it on the command line: `null`, `true`, `0.5`."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def choices(hint: Any) -> tuple[str, ...]:
    """The values that a `Literal` admits; nothing for any other type."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def describe(hint: Any) -> str:
    """What a leaf of this type holds, in words that follow "is not"."""
    if choices(hint):
        return f"one of {', '.join(choices(hint))}"
    if hint in _NAMES:
        return _NAMES[hint]
    inner = [part for part in get_args(hint) if part is not type(None)]
    return f"{describe(inner[0])} or null" if inner else str(hint)


def nearest(word: str, candidates: Iterable[str]) -> str:
    """The candidate that `word` most likely meant, as the end of a sentence; empty if none is close.

    Compares in lower case, since make's variables are the same names in capitals, and dotted keys by their last part
    too, so that `deter` finds `world_model.deter`.
    """
    word, candidates = word.lower(), list(candidates)
    by_word = {key.lower(): key for key in reversed(candidates)}
    by_last = {key.rpartition(".")[2]: by_word[key] for key in by_word}
    for part, names in ((word, by_word), (word.rpartition(".")[2], by_last)):
        if close := difflib.get_close_matches(part, names, n=1, cutoff=0.6):
            return f"; did you mean '{names[close[0]]}'?"
    return ""
