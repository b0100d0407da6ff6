"""A run's directory: made once, used by one process at a time."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmil.config.load import save_config
from vmil.config.runs import CHECKPOINTS, CONFIG_FILE, LAST, LOCK_FILE, PREVIOUS, file_name, last_checkpoint
from vmil.config.schema import Config
from vmil.errors import InUseError, UserError
from vmil.system.paths import given_path

log = logging.getLogger(__name__)

RUN_DIR = "VMIL_RUN_DIR"  # the environment variable by which the first rank tells those it starts where the run lies
_CONTENTS = (
    CHECKPOINTS, "pictures", "videos", "nonfinite", "metrics.csv", "run.json", "run.log", CONFIG_FILE, LOCK_FILE,
)  # fmt: skip
_HALF_WRITTEN = (".*.part", ".*.tmp.mp4", ".next.ckpt", ".previous.ckpt")
_SPARE_DISK = 512 * 1024**2  # bytes: videos, pictures, metrics and two checkpoints


class BegunError(UserError):
    """A UserError that came after training began: what the run has written is worth keeping."""


@contextmanager
def new_run(config: Config) -> Iterator[Path]:
    """Makes this run's directory, with its resolved configuration in it, and holds it for the block.

    A run that never reached a checkpoint may be started again under its name, and a block that ends in a UserError
    before training began leaves nothing behind.

    Raises:
        UserError: there is a run of that name already, or it is in use, or the directory cannot be written.
    """
    name = config.run.name or "-".join(
        [file_name(config.env.name), config.algo, f"s{config.seed}", time.strftime("%Y%m%d-%H%M%S")]
    )
    run_dir = given_path("run.root", config.run.root) / name
    with _writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
    with locked(run_dir):
        refuse_to_overwrite(run_dir)
        others = {path for path in run_dir.iterdir() if path.name != LOCK_FILE} - set(_half_written(run_dir))
        if others and not (run_dir / CONFIG_FILE).exists():
            raise UserError(f"'{run_dir}' holds files that are no run's: take another run.name")
        with _writing(run_dir):
            clear_half_written(run_dir)
            _clear(run_dir, keep=LOCK_FILE)
            save_config(config, run_dir / CONFIG_FILE)
        try:
            yield run_dir
        except UserError as error:
            if not isinstance(error, BegunError) and not has_checkpoint(run_dir):
                _clear(run_dir)
            raise


def joined_run(config: Config) -> Path:
    """The directory that the first rank has made, or is about to make."""
    told = os.environ.get(RUN_DIR)
    return given_path("run.root", config.run.root) / str(config.run.name) if told is None else Path(told)


def has_checkpoint(run_dir: Path) -> bool:
    """Whether there is something to resume."""
    return last_checkpoint(run_dir).is_file()


def require_checkpoint(run_dir: Path) -> None:
    """UserError if there is nothing to resume, which names what there is instead."""
    if has_checkpoint(run_dir):
        return
    if (run_dir / CHECKPOINTS / PREVIOUS).is_file():
        raise UserError(f"'{run_dir / CHECKPOINTS}' has no {LAST}: copy {PREVIOUS}, the one before, to that name")
    raise UserError(f"'{run_dir}' was stopped before its first checkpoint: start again with `make train`")


def clear_half_written(run_dir: Path) -> None:
    """Removes what a killed process was writing; only for the process that holds the directory."""
    for path in _half_written(run_dir):
        path.unlink(missing_ok=True)


def refuse_to_overwrite(run_dir: Path) -> None:
    """UserError if the directory holds a run that came to a checkpoint."""
    if any((run_dir / CHECKPOINTS / name).is_file() for name in (LAST, PREVIOUS)):
        raise UserError(
            f"'{run_dir}' holds a run already: go on with it by `make resume RUN={run_dir}`, or take another run.name"
        )


def _half_written(run_dir: Path) -> list[Path]:
    return [path for pattern in _HALF_WRITTEN for path in run_dir.rglob(pattern)]


def _clear(run_dir: Path, keep: str = "") -> None:
    """Removes what runs write, and the directory if that was all."""
    for name in _CONTENTS:
        path = run_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        elif name != keep:
            path.unlink(missing_ok=True)
    if not any(run_dir.iterdir()):
        run_dir.rmdir()


@contextmanager
def _writing(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"the run directory '{run_dir}' cannot be written: {error.strerror or error}") from error


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Holds the directory for this process; the lock dies with the process, however it ends.

    Raises:
        InUseError: another process is using it.
        UserError: it cannot be written.
    """
    with _writing(run_dir):
        file = (run_dir / LOCK_FILE).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(f"the run directory '{run_dir}' is in use by another process") from error
        except OSError as error:  # some shared file systems have no locks
            log.warning("'%s' cannot be locked (%s): nothing keeps a second process out", run_dir, error.strerror)
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
