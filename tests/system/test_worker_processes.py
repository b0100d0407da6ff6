"""A worker process: what it leaves to its parent, and that it does not outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from vmil.system import workers

PATIENCE = 60.0  # seconds in which an orphan has gone, on a busy machine too
# A process whose child says its pid, and goes on for as long as it is let.
FAMILY = """
import ctypes, os, signal
from types import SimpleNamespace
from vmil.system import workers
ctypes.CDLL = lambda _: SimpleNamespace()  # a system without prctl
workers._LOOK_EVERY = 0.0
parent = os.getpid()
if os.fork() == 0:
    workers.settle_in(parent)
    print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.fixture
def signals() -> Iterator[None]:
    before = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGHUP)}
    yield
    for which, handler in before.items():
        signal.signal(which, handler)


def test_without_prctl_a_worker_ends_with_a_parent_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
        _, alive = psutil.wait_procs([worker], timeout=PATIENCE)
        for process in alive:
            process.kill()
        assert not alive


def test_a_parent_that_died_while_its_worker_started_is_missed(signals: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(prctl=lambda *args: asked.append(args)))
    monkeypatch.setattr(os, "_exit", ended.append)
    workers.settle_in(os.getppid())
    assert not ended
    workers.settle_in(os.getppid() + 1)
    assert ended == [1]
    assert asked == [(1, signal.SIGKILL)] * 2
