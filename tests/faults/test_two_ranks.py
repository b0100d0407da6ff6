"""A run of two processes on the CPU, whole, and stopped in either of them: it goes on to the same end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ranked import STRIKE
from small_runs import FRAMES, SMALL, assert_same_run, write_demos

from vmil.tracking.record import read_record

pytestmark = pytest.mark.faults
RANKED = Path(__file__).with_name("ranked.py")
TWO = ("compute.devices=2", "compute.device=cpu", "compute.threads=1", "training.frames_per_epoch=24")


def run(*arguments: str, strike: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | ({STRIKE: strike} if strike else {})
    return subprocess.run(
        [sys.executable, str(RANKED), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def train(root: Path, strike: str = "") -> subprocess.CompletedProcess[str]:
    if not (root / "demos").exists():
        write_demos(root / "demos")
    where = (f"run.root={root}", "run.name=run", f"demos.path={root}/demos", f"demos.cache_dir={root}/cache")
    return run("train", *SMALL, *TWO, *where, "tracking.kind=csv", strike=strike)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    done = train(root)
    assert done.returncode == 0, done.stderr
    return root / "run"


def test_one_writes_and_the_clock_counts_both(whole: Path) -> None:
    content = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    states = content["VMILDataModule"]["ranks"]
    assert [state["frames"] for state in states] == [FRAMES] * 2
    assert [len(state["replay"]["shelves"]) for state in states] == [2, 2]  # two rounds, in each an episode by each
    assert not torch.equal(states[0]["replay"]["generator"], states[1]["replay"]["generator"])
    assert len(list((whole / "checkpoints" / "replay_1").iterdir())) == 2
    assert read_record(whole)["status"] == "FINISHED"


@pytest.mark.parametrize("rank", [0, 1])
def test_stopped_in_one_both_stop_and_go_on_to_the_same_end(whole: Path, tmp_path: Path, rank: int) -> None:
    stopped = train(tmp_path, strike=f"{rank} 4")
    assert stopped.returncode == 143, stopped.stderr
    content = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert int(content["state_dict"]["updates_done"]) == 4
    done = run("resume", "run=run", f"root={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", whole)
