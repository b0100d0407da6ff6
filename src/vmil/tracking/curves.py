"""Learning curves back from run directories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmil.tracking.tracker import CSV_NAME


@dataclass(frozen=True)
class Point:
    """One reading of one metric."""

    frames: int
    seconds: float
    name: str
    value: float


def read_points(run_dir: Path) -> Iterator[Point]:
    """All readings of a run, in the order they were written; a last row that was cut off is left out."""
    # What a power cut has filled with other bytes is a row that cannot be read, and no more.
    with (run_dir / CSV_NAME).open(newline="", encoding="utf-8", errors="replace") as file:
        names = file.readline().strip().split(",")
        for line in file:  # no number or name of ours holds a comma or a quote
            if not line.endswith("\n"):  # cut off in the middle: what is left of a number may be another one
                continue
            row = dict(zip(names, line.rstrip("\r\n").split(","), strict=False))
            try:
                yield Point(int(row["frames"]), float(row["seconds"]), row["name"], float(row["value"]))
            except (KeyError, ValueError):
                continue
