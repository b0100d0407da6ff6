"""What a cell has on disk, and the command that completes it."""

from __future__ import annotations

import fcntl
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from vmil.config import keys
from vmil.config.load import load_saved_config
from vmil.config.runs import CONFIG_FILE, LOCK_FILE, last_checkpoint
from vmil.config.schema import Config
from vmil.data.demo_files import find_demos, joint_digest
from vmil.errors import UserError
from vmil.experiments.grid import Cell, essence
from vmil.system.provenance import sha256
from vmil.tracking.curves import read_points
from vmil.tracking.record import read_record
from vmil.tracking.tracker import CSV_NAME

Standing = Literal["fresh", "begun", "done"]
# What may change when a run is resumed: it concerns its machine and its tracking, not its result.
ANEW = re.compile(r"compute\..+|tracking(\.kind|\.uri|\.system_metrics)?|demos\.cache_dir")
DEVICE = ("compute.device", "compute.precision", "compute.graphs", "compute.replay")  # set anew at every resume


@dataclass(frozen=True)
class Place:
    """Where an experiment's runs lie and how they are tracked."""

    root: Path
    experiment: str  # MLflow's, and the name of the directory that holds what the runs print
    uri: str | None = None  # MLflow's; None: as each run finds it
    parent: str | None = None  # id of the MLflow run under which they are shown

    def run_dir(self, cell: Cell) -> Path:
        """The cell's run directory."""
        return self.root / cell.name

    def log(self, cell: Cell) -> Path:
        """What the cell's processes print, one after the other; not in the run directory, which is the run's alone."""
        return self.root / self.experiment / f"{cell.name}.log"


def standing(cell: Cell, place: Place) -> Standing:
    """How far the cell has got.

    Raises:
        UserError: a run of its name was made with other settings or demonstrations.
    """
    run_dir = place.run_dir(cell)
    if not (run_dir / CONFIG_FILE).is_file():
        return "fresh"
    saved = load_saved_config(run_dir / CONFIG_FILE)
    wanted, found = essence(cell.config), essence(saved)
    if _anneals_over_budget(cell.config):  # then a longer run is another run from its first update on
        wanted["training.frames"], found["training.frames"] = cell.config.training.frames, saved.training.frames
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UserError(
                f"'{run_dir}' was made with {key}={found.get(key)}, not {value}: move it away, or take another root"
            )
    _check_demos(cell.config, run_dir)
    budget = cell.config.training.frames
    # What it wrote counts: a run that was resumed with a lower budget than its own may have finished before both.
    if read_record(run_dir).get("status") == "FINISHED" and _reached(run_dir) >= budget:
        return "done"
    if not last_checkpoint(run_dir).is_file():
        return "fresh"
    # A longer run of the same settings holds this one, though it was stopped, once it was scored there.
    return "done" if saved.training.frames > budget and _reached(run_dir, "eval/") >= budget else "begun"


def _check_demos(config: Config, run_dir: Path) -> None:
    """UserError if other demonstrations lie there now than the run was made with; none at all is no error."""
    tags = read_record(run_dir).get("tags")
    noted = tags.get("demos") if isinstance(tags, dict) else None
    if noted is None:
        return
    try:
        paths = find_demos(config.env.name, config.demos, config.seed)
    except UserError:
        return
    if noted != joint_digest(_sha256(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths):
        raise UserError(
            f"'{run_dir}' was made with other demonstrations than are in '{paths[0].parent}': move it away, or take "
            "another root"
        )


@cache
def _sha256(path: Path, mtime: int, size: int) -> str:
    return sha256(path)  # which takes a while, for each look at each run


def _anneals_over_budget(config: Config) -> bool:
    return config.discriminator.noise == "annealed" and config.discriminator.noise_anneal_frames == 0


def _reached(run_dir: Path, what: str = "") -> int:
    """Environment frames at a run's last reading; of those alone whose names begin with `what`, if given."""
    points = read_points(run_dir) if (run_dir / CSV_NAME).is_file() else ()
    return max((point.frames for point in points if point.name.startswith(what)), default=0)


def in_use(run_dir: Path) -> bool:
    """Whether a process is making the run, be it this experiment's or another's."""
    try:
        with (run_dir / LOCK_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is no such run yet
        return False
    return False


def command(cell: Cell, place: Place, threads: int) -> list[str]:
    """The command that brings the cell to its end: `train`, or `resume` where there is a checkpoint."""
    chosen = any(item.startswith("compute.threads=") for item in cell.settings)
    own = [f"compute.threads={threads}"] if threads and not chosen else []
    own += [] if place.uri is None else [f"tracking.uri={place.uri}"]
    own += [] if place.parent is None else [f"tracking.parent={place.parent}"]
    if standing(cell, place) == "begun":
        start = ["resume", f"run={place.run_dir(cell)}", f"training.frames={cell.config.training.frames}", *_anew(cell)]
        if place.uri is None and place.parent is not None:  # as the experiment, whatever server the run was begun with
            start.append("tracking.uri=null")
    else:
        start = ["train", *cell.settings, f"run.root={place.root}", f"run.name={cell.name}"]
        start += [f"tracking.experiment={place.experiment}"]
    return [sys.executable, "-m", "vmil", *start, *own]


def _anew(cell: Cell) -> list[str]:
    """This machine's device, as the run may have begun on another, and requested settings that a begun run takes."""
    settings = keys.flatten(cell.config)
    device = [f"{key}={settings[key]}" for key in DEVICE]
    asked = [item for item in cell.settings if ANEW.fullmatch(item.partition("=")[0])]
    return [item for item in device if item not in asked] + asked


def last_line(path: Path) -> str:
    """The last thing that a cell's process said; empty before it spoke."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            tail = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in tail.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else ""
