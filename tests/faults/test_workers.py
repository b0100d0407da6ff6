"""A run whose episodes other processes play, broken while they do: it goes on exactly, and no process outlives it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from faulty import Fault, Ground, kill, terminate
from small_runs import assert_same_run

pytestmark = pytest.mark.faults
ROUNDS = ("training.frames_per_epoch=24", "collector.backend=process", "collector.workers=2")
FAULTS = {
    "while two workers play": (False, Fault("wave", 2, kill), -9),
    "asked to stop while two workers play": (False, Fault("wave", 2, terminate), 143),
    "while it learns and they play": (True, Fault("update", 7, kill), -9),
    "asked to stop while it learns and they play": (True, Fault("update", 7, terminate), 143),
    "asked to stop when they begin the next wave": (True, Fault("wave", 2, terminate), 143),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """A run that nothing stops; of the kind whose workers play while the learner learns, or of the other."""

    @functools.cache
    def run(overlaps: bool) -> Path:
        ground = Ground(tmp_path_factory.mktemp("whole"))
        ended = ground.train("whole", *ROUNDS, overlap(overlaps))
        assert ended.code == 0, ended.said
        return ground.root / "whole"

    return run


def overlap(enabled: bool) -> str:
    return f"collector.overlap={str(enabled).lower()}"


@pytest.mark.parametrize("name", FAULTS)
def test_struck_it_goes_on_to_the_same_end(whole: Callable[[bool], Path], tmp_path: Path, name: str) -> None:
    overlaps, fault, code = FAULTS[name]
    ground = Ground(tmp_path)
    struck = ground.train("run", *ROUNDS, overlap(overlaps), fault=fault)
    assert struck.code == code, struck.said
    assert not psutil.wait_procs(ground.processes(struck), timeout=60)[1]
    ended = ground.resume("run")
    assert ended.code == 0, ended.said
    assert_same_run(ground.root / "run", whole(overlaps))
    assert not psutil.wait_procs(ground.processes(ended), timeout=60)[1]
    assert not ground.leftovers(ended)
