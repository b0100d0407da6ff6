"""Works through a list of runs: start as many as fit, look after them, let none stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

from vmil.errors import INTERRUPTED, LOOK_AGAIN, MISUSED, OK, STOPPED, first_line
from vmil.experiments.grid import Cell

State = Literal["waiting", "running", "stopping", "stopped", "failed", "done"]
StopUrgency = Literal["no", "soon", "now"]  # to stop: not at all, with checkpoints, or at once


class Handle(Protocol):
    """A run that was started."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""

    def stop(self) -> None:
        """Asks it to write a checkpoint and to end."""

    def kill(self) -> None:
        """Ends it at once."""


@dataclass
class Job:
    """A cell and how it stands."""

    cell: Cell
    state: State = "waiting"
    line: str = ""  # the last thing it said, or why it failed
    attempts: int = 0
    fell: str = ""  # how its last attempt ended, if it is to be retried
    handle: Handle | None = None


def work_off(
    jobs: Sequence[Job],
    start: Callable[[Job], Handle | None],
    slots: int,
    *,
    said: Callable[[Job], str],
    lacks: Callable[[Job], str],
    urgency: Callable[[], StopUrgency],
    show: Callable[[Sequence[Job]], None],
    pause: Callable[[], None],
    retries: int = 1,
) -> None:
    """Runs every waiting job, at most `slots` at once, until all have ended or a stop is asked for and obeyed.

    Args:
        start: starts a job; None: nothing is left to do for it. What it raises fails this job only.
        said: the last line of a job's output.
        lacks: why a job whose process ended well is not done all the same; empty: it is.
        urgency: whether to stop.
        show: called after every look at the jobs.
        pause: waits between two looks.
        retries: how often a job is retried that failed other than by a person's mistake.
    """
    with _attended(jobs):
        while True:
            for job in jobs:
                if job.handle is not None:
                    _look_after(job, said, lacks, urgency(), retries)
            running = sum(job.handle is not None for job in jobs)
            for job in jobs:
                if job.state == "waiting" and running < slots and urgency() == "no":
                    _begin(job, start)
                    running += job.handle is not None
            show(jobs)
            ended = not any(job.handle is not None for job in jobs)
            if ended and (urgency() != "no" or not any(job.state == "waiting" for job in jobs)):
                return
            pause()


@contextmanager
def _attended(jobs: Sequence[Job]) -> Iterator[None]:
    """Asks the jobs that run to end, should the block raise: nobody would look after them any more."""
    try:
        yield
    except BaseException:
        for job in jobs:
            if job.handle is not None:
                job.handle.stop()
        raise


def _begin(job: Job, start: Callable[[Job], Handle | None]) -> None:
    job.attempts += 1
    try:
        job.handle = start(job)
    except Exception as error:  # noqa: BLE001  (one run that cannot be started stops no other)
        job.state, job.line = "failed", first_line(error)
        return
    job.state = "done" if job.handle is None else "running"


def _look_after(
    job: Job, said: Callable[[Job], str], lacks: Callable[[Job], str], urgency: StopUrgency, retries: int
) -> None:
    assert job.handle is not None
    code = job.handle.poll()
    job.line = said(job) or job.line
    if code is None:
        if urgency == "now":
            job.handle.kill()
        elif urgency == "soon" and job.state == "running":
            job.handle.stop()
            job.state = "stopping"
        return
    job.handle = None
    lacking = lacks(job) if code == OK else ""
    job.line = lacking or job.line
    if code == OK and not lacking:
        job.state = "done"
    elif urgency != "no":
        job.state = "stopped"
    elif code in (MISUSED, INTERRUPTED, STOPPED) or (code != LOOK_AGAIN and job.attempts > retries):
        # No use retrying, or meant to stop.
        job.state = "stopped" if code in (INTERRUPTED, STOPPED) else "failed"
        job.line = job.line or f"ended with exit code {code} and said nothing"
    else:
        job.attempts -= code == LOOK_AGAIN  # another process made the run: not an attempt of ours
        job.fell = "" if code == LOOK_AGAIN else f"taken up again after exit code {code}: {job.line}"
        job.state = "waiting"
