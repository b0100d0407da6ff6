"""What others published on the same tasks: points to compare with, each with its source."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from vmil.errors import UserError


@dataclass(frozen=True)
class Reference:
    """A published curve, or a single number without a clock (`frames` is then empty)."""

    method: str
    env: str
    frames: tuple[int, ...]  # environment frames
    mean: tuple[float, ...]  # return; on the manipulation tasks the success rate in percent
    reward: str  # true: it learns from the environment's reward; none: it imitates

    @property
    def imitates(self) -> bool:
        """Whether it learns without the environment's reward, as we do."""
        return self.reward == "none"


def read_references(path: Path) -> list[Reference]:
    """The curves of a CSV (method, task, frames, mean, std, seeds, inputs, reward, demos, source), as they come.

    Raises:
        UserError: a row is not of this form.
    """
    rows: dict[tuple[str, str], list[dict[str, str]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows.setdefault((row["method"], row["task"]), []).append(row)
    found = []
    for (method, env), group in rows.items():
        try:
            group = sorted(group, key=lambda row: int(row["frames"] or 0))
            found.append(
                Reference(
                    method=method,
                    env=env,
                    frames=tuple(int(row["frames"]) for row in group if row["frames"]),
                    mean=tuple(float(row["mean"]) for row in group),
                    reward=group[0]["reward"],
                )
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: a row of {method} on {env} holds no numbers") from error
    return found
