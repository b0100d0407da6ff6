"""A SLURM job whose time is up: a checkpoint, `scontrol requeue`, and the same command goes on; on no cluster.

What SLURM would say stands in environment variables, and `scontrol` is a script that notes how it was called.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from faulty import Fault, Ground
from small_runs import assert_same_run

from vmil.training import requeue

JOB = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NAME": "vmil",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def warn(_: Any) -> None:
    """SLURM says that the job's time is nearly up."""
    os.kill(os.getpid(), signal.SIGUSR1)


def scontrol(directory: Path, code: int = 0) -> dict[str, str]:
    """An environment in which it can be called, and notes its arguments beside itself."""
    directory.mkdir()
    script = directory / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> {directory}/called\nexit {code}\n')
    script.chmod(0o755)
    return {**JOB, "PATH": f"{directory}:{os.environ['PATH']}"}


@pytest.mark.faults
def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    whole = Ground(tmp_path / "whole")
    assert whole.train("run").code == 0
    ground, environment = Ground(tmp_path / "job"), scontrol(tmp_path / "bin")
    first = ground.train("run", fault=Fault("update", 11, warn), environment=environment)
    assert first.code == 143, first.said
    assert (tmp_path / "bin" / "called").read_text() == "requeue 77\n"
    assert "queued again: `scontrol requeue 77`" in first.said
    assert not list((ground.root / "run").rglob("hpc_ckpt*"))  # Lightning's own, of the middle of an update
    second = ground.train("run", environment={**environment, "SLURM_RESTART_COUNT": "1"})
    assert second.code == 0, second.said
    assert_same_run(ground.root / "run", whole.root / "run")


@pytest.mark.parametrize(
    ("environment", "name"),
    [({}, None), ({"SLURM_JOB_ID": "5"}, "5"), ({"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}, "5_2")],
)
def test_how_the_job_is_called(environment: dict[str, str], name: str | None) -> None:
    assert requeue.job_id(environment) == name
    assert not requeue.was_requeued(environment)
    assert requeue.was_requeued({**environment, "SLURM_RESTART_COUNT": "2"})


def test_the_warning_asks_to_stop_and_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: stopped.append(signum))
    usual = signal.getsignal(signal.SIGUSR1)
    try:
        monkeypatch.setenv("SLURM_JOB_ID", "77")
        with requeue.requeueing() as wish:
            assert not wish.asked
            signal.raise_signal(signal.SIGUSR1)
        assert wish.asked
        assert stopped == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGUSR1) == usual
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_queue_that_refuses_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in scontrol(tmp_path / "bin", code=1).items():
        monkeypatch.setenv(name, value)
    requeue.requeue(comes_back=True)
    assert "`scontrol requeue 77` failed (exit code 1): `vmil resume` goes on" in caplog.text
    monkeypatch.setenv("PATH", "")
    requeue.requeue(comes_back=True)
    assert "No such file" in caplog.text


def test_a_command_that_would_begin_another_run_is_not_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in scontrol(tmp_path / "bin").items():
        monkeypatch.setenv(name, value)
    requeue.requeue(comes_back=False)
    assert not (tmp_path / "bin" / "called").exists()
    assert "not queued again: only with a run.name" in caplog.text
