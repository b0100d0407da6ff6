"""Where tests of whole runs make them, what such a run is seen to do, and what is done to its files.

Runs are of the counting environment, with networks of a few units: a second each. Updates: 2 of pre-training, then 3 in
each of four rounds of 12 frames; checkpoints after update 2, 8 (24 frames) and 14 (48 frames).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from small_runs import SMALL

from vmil import cli
from vmil.config.keys import sections
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.training.vmil import VMIL

# Read only by what this run does not do: track elsewhere, be part of an experiment, collect in other processes.
UNREAD_HERE = {
    "behaviour.mean_scale",  # of the other kind of policy
    "collector.timeout",
    "run.variant",
    "tracking.uri",
    "tracking.experiment",
    "tracking.parent",
    "tracking.system_metrics",
}

KILLED_AT = """
import os, signal, sys
from vmil.learner.module import ImitationModule
from vmil import cli

count = ImitationModule.count_update

def count_update(learner):
    count(learner)
    if learner.updates == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

ImitationModule.count_update = count_update
sys.exit(cli.main(sys.argv[2:]))
"""


@dataclass
class Place:
    """Where runs, demonstrations and their cache lie."""

    root: Path

    def settings(self, name: str, *more: str) -> list[str]:
        """What follows `vmil train`."""
        where = (f"run.root={self.root}", f"demos.path={self.root}/demos", f"demos.cache_dir={self.root}/cache")
        return [*SMALL, *where, f"run.name={name}", "tracking.kind=csv", *more]

    def train(self, name: str, *more: str) -> int:
        """`vmil train`; its exit code."""
        return cli.main(["train", *self.settings(name, *more)])

    def resume(self, name: str, *more: str) -> int:
        """`vmil resume`; its exit code."""
        return cli.main(["resume", f"run={name}", f"root={self.root}", *more])


@dataclass
class Watch:
    """What a run did, seen from inside."""

    rewarded: list[bool] = field(default_factory=list)  # per update: whether the batch held the environment's reward
    read: set[str] = field(default_factory=set)  # leaves of the configuration that the program read

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Begins to look."""
        step = VMIL.training_step

        def training_step(learner: VMIL, batch: Batch, batch_idx: int) -> None:
            self.rewarded.append(batch.reward is not None)
            step(learner, batch, batch_idx)

        patch.setattr(VMIL, "training_step", training_step)
        config = Config()
        self._record(patch, Config, "")
        for name in sections(Config):
            self._record(patch, type(getattr(config, name)), f"{name}.")

    def _record(self, patch: pytest.MonkeyPatch, kind: type, prefix: str) -> None:
        def getattribute(config: Any, name: str) -> Any:
            caller = sys._getframe(1).f_code.co_filename
            if "/vmil/" in caller and "/vmil/config/" not in caller:  # those read every leaf, whatever it is for
                self.read.add(prefix + name)
            return object.__getattribute__(config, name)

        patch.setattr(kind, "__getattribute__", getattribute)


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The complaint on stderr, which is its only line that is no log."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("vmil: ", "Traceback"))]
    assert len(lines) == 1, lines
    return lines[0]


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def digest(run: Path) -> dict[str, str]:
    """What a run holds, but for what every start writes to its log."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.log"]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def unlink_both(path: Path) -> None:
    path.unlink()
    path.with_name("previous.ckpt").unlink()
