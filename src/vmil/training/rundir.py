"""A run's directory: made once, used by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmil.config.errors import UserError
from vmil.config.load import save_config
from vmil.config.runs import CONFIG_FILE
from vmil.config.schema import Config

_LOCK = ".lock"
_SPARE_DISK = 512 * 1024**2  # bytes: videos, pictures, metrics and two checkpoints


def create_run_dir(config: Config) -> Path:
    """A new directory for this run, with its resolved configuration in it.

    Raises:
        UserError: there is one of that name already, or it cannot be written.
    """
    name = config.run.name or "-".join(
        [config.env.name.replace(":", "-"), config.algo, f"s{config.seed}", time.strftime("%Y%m%d-%H%M%S")]
    )
    run_dir = Path(config.run.root).expanduser() / name
    if (run_dir / CONFIG_FILE).exists():
        raise UserError(
            f"'{run_dir}' holds a run already: go on with it by `make resume RUN={run_dir}`, or take another run.name"
        )
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        save_config(config, run_dir / CONFIG_FILE)
    except OSError as error:
        raise UserError(f"the run directory '{run_dir}' cannot be written: {error.strerror}") from error
    return run_dir


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the directory for this process; the lock dies with the process, however it ends.

    Raises:
        UserError: another process is using it.
    """
    with (run_dir / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"the run directory '{run_dir}' is in use by another process") from error
        yield


def require_disk(run_dir: Path, needed: int) -> int:
    """Bytes free where the run lies.

    Raises:
        UserError: less than `needed` plus what logs and weights take.
    """
    free = shutil.disk_usage(run_dir).free
    if free < needed + _SPARE_DISK:
        raise UserError(
            f"'{run_dir}' has {free / 1e9:.1f} GB free, and this run may need {(needed + _SPARE_DISK) / 1e9:.1f} GB: "
            "free some, set run.root elsewhere, or lower training.replay_frames"
        )
    return free


def git_commit() -> str:
    """The commit of the code that runs, with `+` if it was changed since; `unknown` outside a checkout."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(where: Path, *args: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", *args], cwd=where, capture_output=True, text=True, check=True, timeout=10, env=environment
    )
    return done.stdout.strip()
