"""The one object through which a run reports: numbers, pictures, films, files and its end.

A tracker may fail, a run may not: what cannot be written is dropped after one warning; the rows of `metrics.csv` alone
wait for a disk to have room again. An unknown metric name, in contrast, is an error of the program and raises.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vmil.config.schema import TrackingConfig
from vmil.errors import UserError
from vmil.tracking.metrics import check
from vmil.tracking.pictures import Pixels, histogram_picture, write_png, write_video
from vmil.tracking.record import read_record, update_record

log = logging.getLogger(__name__)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]
CSV_NAME = "metrics.csv"
CSV_HEADER = "frames,seconds,name,value\n"
KEPT_ROWS = 100_000  # that wait in memory while the disk is full, at most: the oldest go


class Tracker:
    """Where a run reports to; this one keeps nothing but the time, and still refuses unknown metrics.

    `frames` are environment frames; images are uint8 (H, W, 3), videos (T, H, W, 3).
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._started = time.monotonic()

    def params(self, flat: Mapping[str, object]) -> None:
        """The resolved configuration, flat; called again with what a resumed run changed."""

    def tags(self, values: Mapping[str, str]) -> None:
        """What else identifies the run: commit, digest of the demonstrations."""

    def metrics(self, values: Mapping[str, float], frames: int) -> None:
        """Numbers of one moment. KeyError if a name is not in the registry."""
        for name in values:
            check(name)

    def histogram(self, name: str, values: NDArray[np.generic], frames: int) -> None:
        """A distribution, as a picture; values of any shape."""

    def image(self, name: str, image: Pixels, frames: int) -> None:
        """A picture of a series."""

    def video(self, name: str, video: Pixels, frames: int, fps: float) -> None:
        """A film of a series."""

    def artifact(self, path: Path) -> None:
        """A file of the run, as it is now."""

    def seconds(self) -> float:
        """Wall-clock of the run so far, resumed stretches added up."""
        return self._before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold so that a resumed run counts nothing twice."""
        return {"seconds": self.seconds()}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Goes back to the moment of `state_dict`: what was written after it is forgotten."""
        self._before = float(state["seconds"])
        self._started = time.monotonic()

    def flush(self, wait: bool = True) -> None:
        """Flushes everything; called at checkpoints. wait: also for a server, a little."""

    def finish(self, status: RunStatus) -> None:
        """Ends the run; the first call wins."""


class CsvTracker(Tracker):
    """`metrics.csv`, `pictures/`, `videos/` and `run.json` in the run's directory."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self.run_dir = run_dir
        self._csv = run_dir / CSV_NAME
        self._rows: deque[str] = deque(maxlen=KEPT_ROWS)  # yet to be written
        self._warned: set[str] = set()
        self._finished = False
        with self._surviving("open metrics.csv"):
            _repair(self._csv)

    def tags(self, values: Mapping[str, str]) -> None:
        """Into `run.json`, beside those that are there; the status too: a finished run that goes on is not finished."""
        with self._surviving("write run.json"):
            before = read_record(self.run_dir).get("tags")
            kept = before if isinstance(before, dict) else {}
            update_record(self.run_dir, tags={**kept, **values}, status="RUNNING")

    def metrics(self, values: Mapping[str, float], frames: int) -> None:
        """One row per number; those that a full disk refuses are written once there is room."""
        super().metrics(values, frames)
        seconds = self.seconds()
        self._rows += [f"{frames},{seconds:.1f},{name},{value:.7g}\n" for name, value in values.items()]
        self._write_rows()

    def histogram(self, name: str, values: NDArray[np.generic], frames: int) -> None:
        """As a bar chart in `pictures/`."""
        self.image(name, histogram_picture(values), frames)

    def image(self, name: str, image: Pixels, frames: int) -> None:
        """As PNG in `pictures/`."""
        with self._surviving("write a picture"):
            (self.run_dir / "pictures").mkdir(exist_ok=True)  # a run directory that was removed must not come back
            write_png(self.run_dir / "pictures" / f"{file_stem(name, frames)}.png", image)

    def video(self, name: str, video: Pixels, frames: int, fps: float) -> None:
        """As MP4 in `videos/`."""
        with self._surviving("write a video"):
            (self.run_dir / "videos").mkdir(exist_ok=True)
            write_video(self.video_path(name, frames), video, fps)

    def video_path(self, name: str, frames: int) -> Path:
        """Where that film lies."""
        return self.run_dir / "videos" / f"{file_stem(name, frames)}.mp4"

    def state_dict(self) -> dict[str, float]:
        """The time, and the size of `metrics.csv` in bytes."""
        self._write_rows()
        size = self._csv.stat().st_size if self._csv.exists() else 0
        return {**super().state_dict(), "csv_bytes": size}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Cuts off the rows that were written after the checkpoint: the resumed run will write them again."""
        super().load_state_dict(state)
        self._rows.clear()
        # A size, not a frame count: a checkpoint in mid-round shares its frame count with rows that come after it.
        size = int(state.get("csv_bytes", 0))
        with self._surviving("rewind metrics.csv"):
            if len(CSV_HEADER) <= size < self._csv.stat().st_size:
                _truncate_to_rows(self._csv, size)

    def flush(self, wait: bool = True) -> None:
        """Makes `metrics.csv` survive a power cut, and notes the time in `run.json`."""
        self._write_rows()
        with self._surviving("flush metrics.csv"):
            with self._csv.open("ab") as file:
                os.fsync(file.fileno())
            update_record(self.run_dir, seconds=round(self.seconds(), 1))

    def finish(self, status: RunStatus) -> None:
        """Notes the status in `run.json`."""
        if self._finished:
            return
        self._finished = True
        self.flush(wait=False)
        with self._surviving("write run.json"):
            update_record(self.run_dir, status=status)

    def _write_rows(self) -> None:
        if self._rows:
            with self._surviving("write metrics.csv"):
                _append(self._csv, "".join(self._rows).encode())
                self._rows.clear()

    @contextmanager
    def _surviving(self, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001  (disk full, no ffmpeg: it must not cost the run)
            if action not in self._warned:
                self._warned.add(action)
                log.warning("tracking cannot %s (%s); the run goes on without it", action, error)


def make_tracker(config: TrackingConfig, run_dir: Path) -> Tracker:
    """The tracker that the configuration asks for; a run directory that has one already is continued.

    Raises:
        UserError: MLflow is asked for and not installed.
    """
    if config.kind == "none":
        return Tracker()
    if config.kind == "csv":
        return CsvTracker(run_dir)
    if config.kind == "mlflow":
        try:
            from vmil.tracking.mlflow import MLflowTracker
        except ModuleNotFoundError as error:
            raise UserError(f"tracking.kind=mlflow needs {error.name}: install it or take tracking.kind=csv") from error
        return MLflowTracker(config, run_dir)
    raise ValueError(f"unknown tracking.kind {config.kind!r}")


def file_stem(name: str, frames: int) -> str:
    """How the file of a series is called at some moment; padded: the files sort in time."""
    return f"{name.replace('/', '_')}_{frames:09d}"


def _append(path: Path, rows: bytes) -> None:
    """All of them or none: half a row would run into the next one, and make another number of both. OSError if none."""
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            if file.write(rows) != len(rows):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(size)
            raise


def _repair(path: Path) -> None:
    """Gives a new file its header, and cuts off a row that a kill left unfinished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or not _truncate_to_rows(path, path.stat().st_size):
        path.write_text(CSV_HEADER, encoding="utf-8")


def _truncate_to_rows(path: Path, size: int) -> int:
    """Cuts the file to the whole rows of its first `size` bytes; how many bytes those are.

    They need not end there: of a file that a power cut had shortened, later rows lie elsewhere than a checkpoint knows.
    """
    with path.open("rb") as file:
        whole = file.read(size).rfind(b"\n") + 1
    if whole < path.stat().st_size:
        os.truncate(path, whole)
    return whole
