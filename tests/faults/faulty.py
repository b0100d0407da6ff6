"""Runs with a fault planted in them, each in a process of its own, forked from one that has everything imported.

A fault strikes at the n-th event of a place: an agent step that is collected ("collection") or evaluated
("evaluation"), the beginning of episodes that other processes play ("wave"), an optimiser step ("update"), a call that
makes a checkpoint safe ("checkpoint"), the demonstrations' loading ("set-up"). What it does there is a function of this
module, or of the test's, named by the test.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch
from small_runs import SMALL, write_demos

PLACES = ("collection", "update", "checkpoint", "evaluation")
FORKS = multiprocessing.get_context("forkserver")
LATE = ("h5py", "imageio_ffmpeg", "pandas", "PIL.Image", "vmil.envs.counting", "vmil.training.vmil")  # on a run's way
FORKS.set_forkserver_preload(["faulty", "vmil.algorithms", "vmil.training.run", *LATE])


@cache
def _said() -> tempfile.TemporaryDirectory[str]:
    """Gone when this process ends."""
    return tempfile.TemporaryDirectory(prefix="faults-")


def said_to() -> Path:
    """A file for what a run says; not on the run's disk, which may be full."""
    return Path(tempfile.mkdtemp(dir=_said().name)) / "output"


def kill(at_hand: Any) -> None:
    """The process is gone at once; a file that was being written is half there."""
    if isinstance(at_hand, int) and stat.S_ISREG(os.fstat(at_hand).st_mode):
        os.ftruncate(at_hand, os.fstat(at_hand).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)


def terminate(_: Any) -> None:
    """Someone asks it to end."""
    os.kill(os.getpid(), signal.SIGTERM)


def hang_up(_: Any) -> None:
    """Its terminal is closed, or the connection to it lost."""
    os.kill(os.getpid(), signal.SIGHUP)


def interrupt(_: Any) -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_twice(_: Any) -> None:
    """Ctrl-C, and again once the first was heard: two that the process is sent at once may arrive as one."""
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def interrupt_while_it_saves(_: Any) -> None:
    """Ctrl-C, and again while the checkpoint that the first one asked for is written."""
    fsync = os.fsync

    def interrupted(descriptor: int) -> None:
        os.fsync = fsync
        os.kill(os.getpid(), signal.SIGINT)
        fsync(descriptor)

    os.kill(os.getpid(), signal.SIGINT)
    os.fsync = interrupted


@dataclass(frozen=True)
class Fault:
    """`strike` at event `number` of `place`, from one on; it gets what the place has at hand."""

    place: str
    number: int
    strike: Callable[[Any], object]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), what it said, and what it counted."""

    code: int
    said: str
    events: dict[str, int]
    pid: int
    temporary: Path  # its TMPDIR

    @property
    def sentences(self) -> list[str]:
        """The lines for a person, without the log; a traceback's first line is among them."""
        return [line for line in self.said.splitlines() if line.startswith(("vmil: ", "Traceback", "Exception"))]


@dataclass
class Ground:
    """Where runs, demonstrations, their cache and temporary files lie."""

    root: Path

    def __post_init__(self) -> None:
        if not (self.root / "demos").exists():
            write_demos(self.root / "demos")

    def train(self, name: str, *more: str, fault: Fault | None = None, **how: Any) -> Ended:
        """`vmil train` in a process of its own."""
        return self._process(self._settings(name, more), fault, **how)

    def _settings(self, name: str, more: Sequence[str]) -> list[str]:
        where = (f"run.root={self.root}", f"demos.path={self.root}/demos", f"demos.cache_dir={self.root}/cache")
        return ["train", *SMALL, *where, f"run.name={name}", "tracking.kind=csv", *more]

    def resume(self, name: str, *more: str, fault: Fault | None = None, **how: Any) -> Ended:
        """`vmil resume` in a process of its own."""
        return self._process(["resume", f"run={name}", f"root={self.root}", *more], fault, **how)

    @contextmanager
    def begun(self, name: str, *more: str) -> Iterator[Any]:
        """A run that has been started; it is gone when the block ends."""
        output = said_to()
        child = FORKS.Process(target=enter, args=(self._settings(name, more), None, output, None, {}))
        child.start()
        try:
            yield child
        finally:
            child.kill()
            child.join()

    def _process(
        self,
        arguments: list[str],
        fault: Fault | None,
        timeout: float = 300.0,
        spare_disk: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> Ended:
        """spare_disk: bytes that a run asks for before it starts; null: as it does."""
        output = said_to()
        child = FORKS.Process(target=enter, args=(arguments, fault, output, spare_disk, environment or {}))
        child.start()
        child.join(timeout)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise AssertionError(f"hangs after {timeout} s: {output.read_text()}")
        counted = output.with_suffix(".events")
        return Ended(
            code=child.exitcode,
            said=output.read_text(),
            events=json.loads(counted.read_text()) if counted.exists() else {},
            pid=child.pid or 0,
            temporary=output.parent / "tmp",
        )

    def processes(self, ended: Ended) -> list[psutil.Process]:
        """Those of its session, which may still be about to end."""
        return [process for process in psutil.process_iter() if _session_of(process.pid) == ended.pid]

    def leftovers(self, ended: Ended) -> list[str]:
        """Temporary files, shared memory and processes that a process has left."""
        half = [path for pattern in (".*.part", ".*.tmp*", ".next.ckpt") for path in self.root.rglob(pattern)]
        temporary = list(ended.temporary.iterdir())
        shared = [path for path in Path("/dev/shm").glob("*") if f"_{ended.pid}_" in path.name]
        return [*map(str, (*half, *temporary, *shared)), *_session(ended.pid)]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it ended meanwhile
        return None


def _session(leader: int) -> list[str]:
    """Processes of that session; each run is made the leader of one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == leader:
                found.append(f"process {process.name}: {(process / 'cmdline').read_bytes()!r}")
        except OSError:  # it ended meanwhile
            continue
    return found


def enter(
    arguments: list[str], fault: Fault | None, output: Path, spare_disk: int | None, environment: dict[str, str]
) -> None:
    """In the child: from here on it is as if it had been called from a shell."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs, as these may be, ignore it
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    temporary = output.parent / "tmp"
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ.update(environment)
    torch.set_num_threads(1)
    from vmil import cli
    from vmil.training import rundir

    if spare_disk is not None:
        rundir._SPARE_DISK = spare_disk
    events: Counter[str] = Counter()
    plant(events, fault)
    code = cli.main(arguments)
    output.with_suffix(".events").write_text(json.dumps(events))
    sys.exit(code)


def plant(events: Counter[str], fault: Fault | None) -> None:
    """Counts the events of every place, and lets the fault strike at its own."""
    from vmil.data import datamodule
    from vmil.data.collect import EpisodeCollector
    from vmil.data.worker_pool import WorkerPool
    from vmil.envs.episodes import EpisodicEnv
    from vmil.learner.module import ImitationModule
    from vmil.training.checkpoint import Checkpoint
    from vmil.training.evaluate import Evaluate

    inside: list[str] = []

    def within(owner: Any, method: str, place: str) -> None:
        original = getattr(owner, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            inside.append(place)
            try:
                return original(*args, **kwargs)
            finally:
                inside.pop()

        setattr(owner, method, call)

    def counted(owner: Any, method: str, place: str | None) -> None:
        original = getattr(owner, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            here = place or (inside[-1] if inside else "")
            if place is not None or here:
                events[here] += 1
                if fault is not None and (here, events[here]) == (fault.place, fault.number):
                    fault.strike(args[0])
            return original(*args, **kwargs)

        setattr(owner, method, call)

    within(EpisodeCollector, "collect_episode", "collection")
    within(Evaluate, "_evaluate", "evaluation")
    within(Checkpoint, "save", "checkpoint")
    counted(EpisodicEnv, "advance", None)
    for name in ("fsync", "replace", "link"):
        counted(os, name, None)
    counted(WorkerPool, "_play", "wave")
    counted(ImitationModule, "step", "update")
    counted(datamodule, "load_demonstrations", "set-up")
