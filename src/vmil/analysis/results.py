"""Runs as the figures need them: what they are, and their curves; from committed files or from MLflow.

A committed run is a directory of `notebooks/results`: `run.yaml` says what it is (`Card`), `metrics.csv` is the run's
own, thinned, and beside them lie the few pictures and tables that `publish` adds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_type_hints

import numpy as np
import yaml
from numpy.typing import NDArray

import vmil
from vmil.analysis.references import Reference, read_references
from vmil.config.runs import BASE
from vmil.config.sources import refuse_to_unfold
from vmil.errors import UserError, first_line
from vmil.system.paths import given_path
from vmil.tracking.curves import Point, read_points

CARD, METRICS, REFERENCES = "run.yaml", "metrics.csv", "published_curves.csv"
SOURCE_VARIABLE = "VMIL_RESULTS"  # a directory of results, `mlflow`, or an MLflow URI
MLFLOW = "mlflow"  # as a source: the store that `make train` writes to
MAX_CSV_BYTES = 2**25
TRUE_REWARD = "true-reward"  # the variant of a preset's run that learnt from the environment's reward
# What a task is scored by: the share of successes where the task has one, the return elsewhere.
SUCCESS, RETURN = "eval/success", "eval/return"
Axis = Literal["frames", "hours"]


@dataclass(frozen=True)
class Card:
    """What a run is, what made it, and what a reader must know about it."""

    env: str
    algo: str
    variant: str  # what its settings change in the preset; base: nothing that matters
    seed: int
    demos: int  # demonstrations that it imitates
    frames: int  # environment frames that it reached
    hours: float  # wall-clock
    status: str  # FINISHED, KILLED or FAILED, as the tracker says; RUNNING: published before its end
    expert_return: float | None  # mean return of its demonstrations
    command: str  # makes this run again, with the presets of the commit
    commit: str  # of the code that ran, or all where it was resumed with another; `+`: with changes
    machine: str
    note: str = ""


class Curve(NamedTuple):
    """One metric of one run, by frames."""

    frames: NDArray[np.int64]  # (N,) environment frames
    hours: NDArray[np.float64]  # (N,) wall-clock since the run began
    values: NDArray[np.float64]  # (N,)

    def moments(self, axis: Axis) -> NDArray[np.float64]:
        """When it was read, (N,), in frames or in hours."""
        return np.asarray(getattr(self, axis), np.float64)


@dataclass(frozen=True)
class Run:
    """A run and all its readings; `directory` holds its pictures, if it was published."""

    name: str
    card: Card
    points: tuple[Point, ...]
    directory: Path | None = None

    def curve(self, metric: str) -> Curve | None:
        """One metric; None if the run never reported it."""
        found = sorted((p for p in self.points if p.name == metric), key=lambda point: (point.frames, point.seconds))
        if not found:
            return None
        return Curve(
            np.array([point.frames for point in found]),
            np.array([point.seconds / 3600 for point in found]),
            np.array([point.value for point in found]),
        )

    @property
    def score(self) -> str:
        """The metric that its task is scored by."""
        return SUCCESS if any(point.name == SUCCESS for point in self.points) else RETURN


@dataclass(frozen=True)
class Results:
    """Everything there is to draw: `runs` for curves, `shorter` for the files that lie beside some of them."""

    runs: tuple[Run, ...]  # one for each task, algorithm, variant and seed
    references: tuple[Reference, ...]
    shorter: tuple[Run, ...] = ()  # each replaced by one of `runs` that got further

    def select(self, env: str | None = None, algo: str | None = None, variant: str | None = None) -> list[Run]:
        """The runs of a task, algorithm and variant; None: any."""
        wanted = {"env": env, "algo": algo, "variant": variant}
        return [
            run
            for run in self.runs
            if all(value is None or getattr(run.card, key) == value for key, value in wanted.items())
        ]

    def standing(self, env: str, algo: str) -> list[Run]:
        """The preset's runs of an algorithm on a task; where it has none, those of the variant that came furthest.

        What learnt from the environment's reward imitates nobody and stands for no preset.
        """
        runs = [run for run in self.select(env, algo) if run.card.variant != TRUE_REWARD]
        if not runs:
            return []
        variants = {run.card.variant for run in runs}
        shown = BASE if BASE in variants else max(runs, key=lambda run: run.card.frames).card.variant
        return [run for run in runs if run.card.variant == shown]

    def algorithms(self, env: str) -> list[str]:
        """Algorithms that have a run on a task, in the order of their names."""
        return sorted({run.card.algo for run in self.runs if run.card.env == env})

    def longest_with(self, pattern: str, env: str, algo: str | None = None) -> tuple[Run, list[Path]] | None:
        """Of the runs that stand for their presets, the one with such files that came furthest, and they.

        Shorter runs of the same variant count too; of two equally long ones it is the one that is drawn.
        """
        everything = replace(self, runs=(*self.runs, *self.shorter))
        found = [
            (run.card.frames, run in self.runs, run.name, run, files)
            for known in ([algo] if algo else self.algorithms(env))
            for run in everything.standing(env, known)
            if run.directory and (files := sorted(run.directory.glob(pattern)))
        ]
        return max(found)[3:] if found else None


def checkout_dir() -> Path:
    """Where `notebooks/` lies: the checkout that is installed, else the working directory."""
    root = Path(vmil.__file__).parents[2]
    return root if (root / "notebooks").is_dir() else Path.cwd()


def load_results(source: str | None = None) -> Results:
    """Every run of `source`: a directory of results, `mlflow`, an MLflow URI; None: $VMIL_RESULTS, else the committed.

    Raises:
        UserError: there is no such source, or a file in it is damaged.
    """
    committed = checkout_dir() / "notebooks" / "results"
    chosen = source or os.environ.get(SOURCE_VARIABLE) or str(committed)
    references = read_references(committed / REFERENCES) if (committed / REFERENCES).is_file() else []
    if chosen == MLFLOW or "://" in chosen:
        from vmil.analysis.stored import read_mlflow

        runs = read_mlflow(None if chosen == MLFLOW else chosen)
    else:
        runs = read_published(given_path("source", chosen))
    drawn = longest(runs)
    return Results(tuple(drawn), tuple(references), tuple(run for run in runs if run not in drawn))


def read_published(directory: Path) -> list[Run]:
    """The published runs anywhere in a directory, by path; UserError if there is none such, or a run is damaged."""
    if not directory.is_dir():
        raise UserError(f"'{directory}' is not a directory of results")
    found = []
    for path in sorted(directory.rglob(CARD)):
        if any(part.startswith(".") for part in path.relative_to(directory).parts):
            continue  # left by a `publish` that was killed
        metrics = path.with_name(METRICS)
        if not metrics.is_file() or metrics.stat().st_size > MAX_CSV_BYTES:
            raise UserError(f"{metrics} is missing, or larger than {MAX_CSV_BYTES >> 20} MiB")
        found.append(Run(path.parent.name, read_card(path), tuple(read_points(path.parent)), path.parent))
    return found


def longest(runs: Sequence[Run]) -> list[Run]:
    """One run for each task, algorithm, variant and seed: the one that got furthest, so that no seed counts twice."""
    best: dict[tuple[str, str, str, int], Run] = {}
    for run in runs:
        key = (run.card.env, run.card.algo, run.card.variant, run.card.seed)
        if key not in best or run.card.frames > best[key].card.frames:
            best[key] = run
    return list(best.values())


def variant_of(named: str, true_reward: bool) -> str:
    """A run's variant as named; a run that learnt from the environment's reward is not imitation, and is never base."""
    return TRUE_REWARD if true_reward and named == BASE else named


def read_card(path: Path) -> Card:
    """A run's card; `UserError` if a field is missing, unknown or of another type."""
    try:
        refuse_to_unfold(path)  # with aliases it could be endless to print
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no card of a run")
    hints = get_type_hints(Card)
    unknown, missing = set(content) - set(hints), {item.name for item in fields(Card)} - {"note"} - set(content)
    if unknown or missing:
        raise UserError(f"{path}: missing or unknown fields: {', '.join(sorted(map(str, unknown | missing)))}")
    for key, value in content.items():
        if isinstance(value, bool) or not isinstance(value, hints[key] if hints[key] is not float else (int, float)):
            raise UserError(f"{path}: {key}={value} is not of its type")
    return Card(**content)


def write_card(card: Card, path: Path) -> None:
    """Writes a card as YAML."""
    path.write_text(yaml.safe_dump(asdict(card), sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
