"""Runs as MLflow holds them, in the form in which the figures read committed ones."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vmil.analysis.gallery import HISTOGRAMS, copy_pictures, evenly
from vmil.analysis.preset import command_by, variant_by
from vmil.analysis.results import Card, Run, checkout_dir
from vmil.config.schema import TrackingConfig
from vmil.errors import UserError, first_line
from vmil.tracking.address import shown, sqlite_file, tracking_uri
from vmil.tracking.curves import Point
from vmil.tracking.tracker import file_stem

log = logging.getLogger(__name__)

CLOCK = "run/seconds"
CACHE = Path("~/.cache/vmil/mlflow")  # pictures, by run
SHOWN = "shown"
TOY = "debug"  # MLflow's experiment of `make smoke` (conf/compute/debug.yaml), which proves only that everything runs


def read_mlflow(uri: str | None = None) -> list[Run]:
    """Every training run in an MLflow store; None: the `usual_store`.

    Raises:
        UserError: MLflow is not installed, or no store answers there.
    """
    address = uri or usual_store()
    database = sqlite_file(address)
    if database is not None and not database.is_file():
        raise UserError(f"no run is tracked in '{database}'")
    try:
        from vmil.tracking import stored as store
    except ModuleNotFoundError as error:
        raise UserError(f"reading MLflow needs {error.name}: install it, or read published results") from error

    def read(run: store.StoredRun) -> Run | None:
        if run.params.get("tracking.experiment") == TOY:
            return None
        wanted = [name for name in run.last if wanted_metric(name)]
        points = timed({name: store.history(address, run.run_id, name) for name in wanted})
        if not points:
            return None
        card = _card(run.params, run.tags, run.status, points)
        return Run(run.name, card, points, fetch_pictures(address, run.run_id))

    try:
        runs = [read(run) for run in store.stored_runs(address) if {"env", "algo"} <= set(run.tags)]
    except Exception as error:  # whatever a server, a driver or a database raises
        reason = shown(first_line(error))
        raise UserError(f"MLflow at {shown(address)} cannot be read: {reason}") from error
    return [run for run in runs if run is not None]


def usual_store() -> str:
    """Where `make train` tracks runs: below this directory if it has any, else in the checkout, as for a notebook."""
    here = Path("runs")
    return tracking_uri(TrackingConfig(), here if here.is_dir() else checkout_dir() / "runs")


def fetch_pictures(address: str, run_id: str) -> Path | None:
    """A directory with the pictures of a run that figures show, cached for the next time; None: there are none."""
    from vmil.tracking.stored import fetch_picture, stored_pictures

    place = CACHE.expanduser() / run_id
    try:
        held = stored_pictures(address, run_id)
        chosen = [picture for picture in held if picture.name == "model/open_loop"][-1:]
        chosen += evenly([picture for picture in held if picture.name == "reward/histogram"], HISTOGRAMS)
        fetched = {
            f"{file_stem(picture.name, picture.frames)}.png": fetch_picture(address, run_id, picture, place)
            for picture in chosen
        }
        if not fetched:
            return None
        shutil.rmtree(place / SHOWN, ignore_errors=True)
        (place / SHOWN).mkdir()
        copy_pictures(fetched, place / SHOWN)
    except Exception as error:  # noqa: BLE001  whatever a server or a disk raises: curves are drawn anyway
        log.warning("the pictures of run %s cannot be had: %s", run_id, error)
        return None
    return place / SHOWN


def wanted_metric(name: str) -> bool:
    """Whether figures need a metric: everything but the times of single stages."""
    return not name.startswith(("time/", "system/")) or name == "time/update"


def timed(histories: Mapping[str, list[tuple[int, float]]]) -> tuple[Point, ...]:
    """Readings with wall-clock interpolated from the run's own clock: MLflow's counts pauses too."""
    clock = histories.get(CLOCK, [])
    if not clock:
        return ()
    frames, seconds = (np.array(column, float) for column in zip(*clock, strict=True))
    found = [
        Point(at, float(np.interp(at, frames, seconds)), name, value)
        for name, points in histories.items()
        for at, value in points
    ]
    return tuple(sorted(found, key=lambda point: (point.seconds, point.name)))


def _card(params: Mapping[str, str], tags: Mapping[str, str], status: str, points: tuple[Point, ...]) -> Card:
    return Card(
        env=tags["env"],
        algo=tags["algo"],
        variant=variant_by(params, tags["env"], tags["algo"]),
        seed=int(params.get("seed", 0)),
        demos=int(tags.get("demonstrations", 0)),
        frames=max(point.frames for point in points),
        hours=max(point.seconds for point in points) / 3600,
        status=status,
        expert_return=implied_expert_return(points),
        command=_command(params, tags["env"], tags["algo"]),
        commit=tags.get("commit", ""),
        machine="",
    )


def _command(settings: Mapping[str, str], env: str, algo: str) -> str:
    """What makes this run; empty for a task or an algorithm that this vmil does not have."""
    try:
        return command_by(settings, env, algo)
    except UserError:
        return ""


def implied_expert_return(points: tuple[Point, ...]) -> float | None:
    """The demonstrations' mean return, as implied by the evaluations; None if none was normalised."""
    returns = {point.frames: point.value for point in points if point.name == "eval/return"}
    shares = {point.frames: point.value for point in points if point.name == "eval/normalised"}
    known = [returns[at] / share for at, share in shares.items() if at in returns and share > 0 and returns[at] > 0]
    return round(float(np.median(known)), 3) if known else None
