"""The tracking server goes away, hangs or comes back: no run waits for it long, and metrics.csv has everything."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from faulty import Fault, Ground, terminate
from small_runs import FRAMES, ROUND

from vmil.tracking.curves import read_curve
from vmil.tracking.record import read_record

pytest.importorskip("mlflow")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.faults]
ROUNDS = list(range(0, FRAMES + 1, ROUND))
RUN = {"info": {"run_id": "r1", "experiment_id": "1", "status": "RUNNING"}, "data": {}}


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


class Stub(BaseHTTPRequestHandler):
    """As much of MLflow's REST interface as a run needs; out of order for a while after its first metrics."""

    metrics: list[dict[str, Any]] = []
    refused = 0
    status = ""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        what, code, answer = self.path.partition("?")[0].split("/mlflow/")[-1], 200, {}
        if what == "experiments/get-by-name":
            answer = {"experiment": {"experiment_id": "1", "name": "debug"}}
        elif what == "runs/log-batch" and body.get("metrics"):
            if Stub.metrics and Stub.refused < 3:
                Stub.refused, code = Stub.refused + 1, 503
            else:
                Stub.metrics += body["metrics"]
        elif what == "runs/update":
            Stub.status, answer = body.get("status", ""), {"run_info": RUN["info"]}
        elif what in ("runs/create", "runs/get"):
            answer = {"run": RUN}
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_PUT = _answer

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def stub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_what_a_server_missed_reaches_it_when_it_is_back(tmp_path: Path, stub: str) -> None:
    ended = Ground(tmp_path).train("run", "tracking.kind=mlflow", f"tracking.uri={stub}")
    assert ended.code == 0, ended.said
    assert Stub.refused == 3
    assert [metric["step"] for metric in Stub.metrics if metric["key"] == "model/loss"] == ROUNDS
    assert Stub.status == "FINISHED"
    assert "were not delivered" not in ended.said


def test_the_ui_listens_on_this_machine_only(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_experiments()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "vmil", "ui", f"root={tmp_path}", f"port={port}"])
    try:
        deadline, bound = time.monotonic() + 240, set[str]()
        while not bound and time.monotonic() < deadline:
            family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
            listening = [c for process in family for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
            bound = {connection.laddr.ip for connection in listening}
            assert server.poll() is None
            threading.Event().wait(0.2)
        assert bound == {"127.0.0.1"}
    finally:
        for process in psutil.Process(server.pid).children(recursive=True):
            process.kill()
        server.kill()
        server.wait()
