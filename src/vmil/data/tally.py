"""Totals of a round of collection, kept across a stop in the middle of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Tally:
    """Returns, successes and seconds of the episodes that the running round has collected so far."""

    returns: list[float] = field(default_factory=list)  # for scores only, in no batch
    successes: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # by `time/<stage>`

    def add(self, total: float, scores: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        """Takes in one episode."""
        self.returns.append(total)
        self.successes += [value for name, value in scores.items() if name == "success"]
        self.add_seconds(seconds)

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Takes in the time spent on several of them together."""
        self.seconds = dict(Counter(self.seconds) + Counter(seconds))

    def metrics(self) -> dict[str, float]:
        """collect/return, collect/success if the task has it, and time/*."""
        means = {"collect/return": self.returns, "collect/success": self.successes}
        return {**self.seconds, **{name: sum(each) / len(each) for name, each in means.items() if each}}

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)
