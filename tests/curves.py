"""One metric back from a run's directory."""

from __future__ import annotations

from pathlib import Path

from vmil.tracking.curves import read_points
from vmil.tracking.metrics import check


def read_curve(run_dir: Path, name: str) -> list[tuple[int, float]]:
    """(frames, value) of one metric of a run. KeyError if no metric has that name."""
    check(name)
    return [(point.frames, point.value) for point in read_points(run_dir) if point.name == name]
