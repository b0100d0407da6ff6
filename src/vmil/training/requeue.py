"""Under SLURM: a job whose time is up stops with a checkpoint, is queued again, and goes on where it stopped."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

log = logging.getLogger(__name__)


@dataclass
class Wish:
    """Whether SLURM has said that the job's time is up."""

    asked: bool = False


@contextmanager
def requeueing() -> Iterator[Wish]:
    """Within the block SIGUSR1 (`#SBATCH --signal=SIGUSR1@300`) stops a run of a SLURM job as SIGTERM does.

    Lightning has a handler of its own, which it leaves out where there is one: it writes its checkpoint there and then,
    in the middle of an update.
    """
    wish = Wish()

    def ask(signum: int, frame: FrameType | None) -> None:
        wish.asked = True
        signal.raise_signal(signal.SIGTERM)

    if job_id(os.environ) is None or threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = signal.signal(signal.SIGUSR1, ask)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGUSR1, before)


def job_id(environment: Mapping[str, str]) -> str | None:
    """How `scontrol` calls this job; None outside SLURM."""
    if "SLURM_ARRAY_JOB_ID" in environment:
        return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return environment.get("SLURM_JOB_ID")


def was_requeued(environment: Mapping[str, str]) -> bool:
    """Whether this job has run before."""
    return int(environment.get("SLURM_RESTART_COUNT", "0")) > 0


def requeue(comes_back: bool) -> None:
    """Asks SLURM to run this job again; what stands in the way of that is a warning.

    comes_back: whether its command finds the run that it has made; else it would begin another one, time after time.
    """
    if not comes_back:
        log.warning("not queued again: only with a run.name does the same command go on with its run")
        return
    command = ["scontrol", "requeue", job_id(os.environ) or ""]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        problem = "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    if problem:
        log.warning("`%s` failed (%s): `vmil resume` goes on from the checkpoint", " ".join(command), problem)
    else:
        log.info("queued again: `%s`", " ".join(command))
