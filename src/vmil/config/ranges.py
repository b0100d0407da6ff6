"""Which numbers a setting may hold, declared beside its type: `lr: Positive = 6e-4`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, get_args

from vmil.config import keys
from vmil.errors import UserError


@dataclass(frozen=True)
class Range:
    """Numbers from low to high; a bracket says that the end belongs to them, a parenthesis that it does not."""

    low: float
    high: float = math.inf
    ends: Literal["[]", "[)", "(]", "()"] = "[)"

    def __contains__(self, value: float) -> bool:
        """Nan lies in no range, infinity in none that is open there."""
        above = value >= self.low if self.ends[0] == "[" else value > self.low
        below = value <= self.high if self.ends[1] == "]" else value < self.high
        return above and below

    def __str__(self) -> str:
        """In the notation of mathematics: `[0, 1)`."""
        return f"{self.ends[0]}{self.low}, {self.high}{self.ends[1]}"


Count: TypeAlias = Annotated[int, Range(1)]
Natural: TypeAlias = Annotated[int, Range(0)]
Positive: TypeAlias = Annotated[float, Range(0, ends="()")]
NotNegative: TypeAlias = Annotated[float, Range(0)]
Finite: TypeAlias = Annotated[float, Range(-math.inf, ends="()")]
Share: TypeAlias = Annotated[float, Range(0, 1, "[]")]
ShareBelowOne: TypeAlias = Annotated[float, Range(0, 1)]
PositiveShare: TypeAlias = Annotated[float, Range(0, 1, "(]")]
Seed: TypeAlias = Annotated[int, Range(0, 2**32 - 1, "[]")]  # numpy's legacy seeds, which dm_control uses: 32 bits


@functools.cache
def ranges_of(schema: type) -> Mapping[str, Range]:
    """The range of every leaf that has one, as {"world_model.deter": Range(1), ...}; null is outside no range."""
    found = {}
    for key, hint in keys.leaves(schema, extras=True).items():
        for part in (hint, *get_args(hint)):  # Annotated[int, Range(1)], or a part of Annotated[int, Range(1)] | None
            for extra in getattr(part, "__metadata__", ()):
                if isinstance(extra, Range):
                    found[key] = extra
    return MappingProxyType(found)


def check_ranges(config: Any) -> None:
    """Refuse a dataclass instance with a number outside its range; raises `UserError` with the first."""
    values, schema = keys.flatten(config), config.__class__
    for key, allowed in ranges_of(schema).items():
        require(key, values[key], allowed)


def require(key: str, value: object, allowed: Range) -> None:
    """Refuse a number outside a range, which null and texts never are; raises `UserError`."""
    if isinstance(value, (int, float)) and value not in allowed:
        raise UserError(f"{key}={value} is outside {allowed}")
