"""A run whose episodes other processes play, broken while they do: it goes on exactly, and no process outlives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from faulty import Fault, Ground, kill, terminate
from small_runs import assert_same_run

pytestmark = pytest.mark.faults
ROUNDS = ("training.frames_per_epoch=24", "collector.backend=process")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stops."""
    ground = Ground(tmp_path_factory.mktemp("whole"))
    ended = ground.train("whole", *ROUNDS, "collector.workers=2")
    assert ended.code == 0, ended.said
    return ground.root / "whole"


@pytest.mark.parametrize(("strike", "code"), [(kill, -9), (terminate, 143)])
def test_struck_while_two_workers_play_it_goes_on_to_the_same_end(
    whole: Path, tmp_path: Path, strike: Callable[[Any], None], code: int
) -> None:
    ground = Ground(tmp_path)
    struck = ground.train("run", *ROUNDS, "collector.workers=2", fault=Fault("wave", 2, strike))
    assert struck.code == code, struck.said
    assert not psutil.wait_procs(ground.processes(struck), timeout=10)[1]
    ended = ground.resume("run")
    assert ended.code == 0, ended.said
    assert_same_run(ground.root / "run", whole)
    assert not psutil.wait_procs(ground.processes(ended), timeout=10)[1]
    assert not ground.leftovers(ended)
