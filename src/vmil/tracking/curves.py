"""Learning curves back from run directories: as tidy rows, and as the picture of return against frames and hours."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from omegaconf import OmegaConf

from vmil.tracking.metrics import check
from vmil.tracking.record import read_record
from vmil.tracking.tracker import CSV_NAME


@dataclass(frozen=True)
class Point:
    """One reading of one metric."""

    frames: int
    seconds: float
    name: str
    value: float


@dataclass(frozen=True)
class ResultRow:
    """One line of `notebooks/results/*.csv`; `seconds` is wall-clock since the run began, `commit` git's."""

    env: str
    algo: str
    seed: int
    frames: int
    seconds: float
    metric: str
    value: float
    commit: str


def read_points(run_dir: Path) -> Iterator[Point]:
    """All readings of a run, in the order they were written; a last row that was cut off is left out."""
    with (run_dir / CSV_NAME).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                yield Point(int(row["frames"]), float(row["seconds"]), row["name"], float(row["value"]))
            except (TypeError, ValueError):  # the run is being written, or was killed in the middle of a row
                continue


def read_curve(run_dir: Path, name: str) -> list[tuple[int, float]]:
    """(frames, value) of one metric of a run. KeyError if no metric has that name."""
    check(name)
    return [(point.frames, point.value) for point in read_points(run_dir) if point.name == name]


def read_mlflow_curve(run_dir: Path, name: str) -> list[tuple[int, float]]:
    """The same from the MLflow run that `run.json` names; LookupError if it names none."""
    from vmil.tracking.mlflow import history

    check(name)
    record = read_record(run_dir)
    if not record.get("mlflow_run_id"):
        raise LookupError(f"{run_dir / 'run.json'} names no MLflow run")
    return history(str(record["mlflow_uri"]), str(record["mlflow_run_id"]), name)


def result_rows(run_dir: Path, metrics: Sequence[str]) -> Iterator[ResultRow]:
    """The readings of `metrics` with what identifies the run, from its `config.yaml`, `run.json` and `metrics.csv`."""
    for name in metrics:
        check(name)
    config = OmegaConf.load(run_dir / "config.yaml")
    tags = read_record(run_dir).get("tags")
    commit = str(tags.get("commit", "")) if isinstance(tags, dict) else ""
    run = (str(config.env.name), str(config.algo), int(config.seed))
    for point in read_points(run_dir):
        if point.name in metrics:
            yield ResultRow(*run, point.frames, point.seconds, point.name, point.value, commit)


def write_results_csv(
    runs: Iterable[Path], path: Path, metrics: Sequence[str] = ("eval/return", "eval/normalised", "collect/return")
) -> int:
    """Writes the rows of several runs into one file, atomically; the number of rows."""
    rows = [row for run_dir in runs for row in result_rows(run_dir, metrics)]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(ResultRow)])
        writer.writerows(astuple(row) for row in rows)
    os.replace(temporary, path)
    return len(rows)


def read_results_csv(path: Path) -> list[ResultRow]:
    """What `write_results_csv` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            ResultRow(
                row["env"], row["algo"], int(row["seed"]), int(row["frames"]), float(row["seconds"]),
                row["metric"], float(row["value"]), row["commit"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def plot_curve(
    rows: Sequence[ResultRow], path: Path, metric: str = "eval/return", expert_return: float | None = None
) -> None:
    """Draws a metric against frames (left) and hours (right), one line per env, algo and seed; PNG or SVG by suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    runs: dict[tuple[str, str, int], list[ResultRow]] = {}
    for row in rows:
        if row.metric == metric:
            runs.setdefault((row.env, row.algo, row.seed), []).append(row)
    if not runs:
        raise ValueError(f"no row of {metric} to draw")
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for (env, algo, seed), curve in sorted(runs.items()):
        values = [row.value for row in curve]
        label = f"{env}, {algo}, seed {seed}"
        panels[0].plot([row.frames / 1000 for row in curve], values, marker="o", markersize=3, label=label)
        panels[1].plot([row.seconds / 3600 for row in curve], values, marker="o", markersize=3, label=label)
    for panel, axis in zip(panels, ("thousand environment frames", "hours"), strict=True):
        if expert_return is not None:
            panel.axhline(expert_return, color="grey", linestyle="--", linewidth=1, label="demonstrations")
        panel.set_xlabel(axis)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("return" if metric in ("eval/return", "collect/return") else metric)
    panels[0].legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
