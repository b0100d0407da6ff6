"""A run that goes on and on: once its replay is full, memory, file handles and disk stay as they are.

Two minutes, or `VMIL_SOAK_MINUTES`; `make soak` takes an hour.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from curves import read_curve
from faulty import Ground

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
MINUTES = float(os.environ.get("VMIL_SOAK_MINUTES", "2"))
REPLAY, ROUND = 120, 12  # frames
GROWS = ("metrics.csv", "run.log")  # a few hundred bytes each round, which is what they are for
ENDLESS = (
    "training.frames=100000000",
    f"training.replay_frames={REPLAY}",
    "training.updates_per_epoch=2",
    "training.eval_every_frames=240",
    "training.image_log_every_frames=100000000",
)


class Reading(NamedTuple):
    """What a process holds at one moment."""

    memory: int  # bytes resident
    handles: int
    disk: int  # bytes in the run's directory, but for what grows


def look(process: psutil.Process, run: Path) -> Reading:
    """Reads all three."""
    sizes = []
    for path in run.rglob("*"):
        if path.name not in GROWS:
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:  # just replaced
                continue
    return Reading(process.memory_info().rss, process.num_fds(), sum(sizes))


def is_full(run: Path) -> bool:
    """Whether the replay holds all that it can, and has begun to forget."""
    if not (run / "metrics.csv").exists():
        return False
    filled = read_curve(run, "replay/frames")
    return bool(filled) and filled[-1][1] == REPLAY and filled[-1][0] >= 3 * REPLAY


def test_nothing_grows_once_the_replay_is_full(tmp_path: Path) -> None:
    ground, run = Ground(tmp_path), tmp_path / "run"
    readings: list[Reading] = []
    with ground.begun("run", *ENDLESS) as child:
        process, deadline = psutil.Process(child.pid), time.monotonic() + 60 * MINUTES + 120
        while not is_full(run):
            assert child.exitcode is None, "it ended"
            assert time.monotonic() < deadline, "its replay is still not full"
            child.join(1.0)
        end = time.monotonic() + 60 * MINUTES
        while time.monotonic() < end:
            child.join(1.0)
            assert child.exitcode is None, "it ended"
            readings.append(look(process, run))
        child.terminate()
        child.join(30.0)
        assert child.exitcode == 143
    third = len(readings) // 3
    first, last = (
        Reading(*(int(statistics.median(each)) for each in zip(*part, strict=True)))
        for part in (readings[:third], readings[-third:])
    )
    print(f"after {len(readings)} s: {first} -> {last}")
    assert last.memory < 1.02 * first.memory + 8e6
    assert last.handles <= first.handles
    assert last.disk < 1.05 * first.disk + 1e5
