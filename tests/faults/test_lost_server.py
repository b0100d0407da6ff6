"""The tracking server is away or hangs: no run waits for it long, and metrics.csv has everything."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from curves import read_curve
from faulty import Fault, Ground, terminate
from small_runs import FRAMES, ROUND

from vmil.tracking.record import read_record

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
ROUNDS = list(range(0, FRAMES + 1, ROUND))


def frames_reported(run: Path) -> list[int]:
    return [frames for frames, _ in read_curve(run, "model/loss")]


def test_a_server_that_is_not_there_costs_its_charts_only(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = Ground(tmp_path).train("run", "tracking.kind=mlflow", f"tracking.uri={uri}")
    assert ended.code == 0, ended.said
    assert ended.said.count(f"MLflow at {uri}: ") == 2  # that it is away, and in the end how much was not delivered
    assert "the run goes on, metrics.csv keeps everything" in ended.said
    assert "messages were not delivered" in ended.said
    assert frames_reported(tmp_path / "run") == ROUNDS
    assert read_record(tmp_path / "run")["status"] == "FINISHED"


def test_a_server_that_never_answers_does_not_keep_a_run_from_ending(tmp_path: Path) -> None:
    """Who asks a run to end may kill it half a minute later: its checkpoint must not wait for a server."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()  # connections come about, and nobody ever reads them
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        late = Fault("update", 7, terminate)  # in the first round, after the first checkpoint
        began = time.monotonic()
        ended = Ground(tmp_path).train("run", "tracking.kind=mlflow", f"tracking.uri={uri}", fault=late)
    assert ended.code == 143, ended.said
    assert time.monotonic() - began < 120.0
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
