"""Publishes a finished run beside the notebooks: its card, the numbers that figures need, a few small pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from vmil.analysis.gallery import copy_pictures, evenly
from vmil.analysis.latents import latent_points, write_latents
from vmil.analysis.preset import command_by, unnamed_changes, variant_by
from vmil.analysis.results import CARD, METRICS, Card, checkout_dir, write_card
from vmil.analysis.stored import implied_expert_return
from vmil.config.keys import flatten
from vmil.config.learners import traits
from vmil.config.load import load_saved_config
from vmil.config.runs import BASE, CONFIG_FILE, run_name
from vmil.config.schema import Config
from vmil.config.schema_cli import PublishOptions
from vmil.data.demo_files import find_demos
from vmil.errors import UserError
from vmil.system import machine
from vmil.system.files import whole_directory
from vmil.system.paths import check_directory_name, given_path
from vmil.tracking.curves import Point, read_points
from vmil.tracking.record import read_record

# What a figure or its reader asks for; a name that ends in `/` is a family.
KEPT = (
    "eval/",
    "collect/return",
    "collect/success",
    "disc/expert_prob",
    "disc/policy_prob",
    "disc/accuracy",
    "disc/replay_accuracy",
    "disc/dream_accuracy",
    "reward/",
    "model/reconstruction",
    "model/kl",
    "actor/cloning_error",
    "actor/mean_abs",
    "actor/action_std",
    "critic/value",
    "health/",
    "time/update",
    "run/seconds",
)
READINGS = 120  # of one metric, at most; evaluations are all kept
LATENTS = "latents.csv"


def publish_run(run_dir: Path, options: PublishOptions) -> Path:
    """Writes a run's directory in `notebooks/results`, replacing an earlier one of its name; returns its path.

    Raises:
        UserError: the run has no numbers yet, its files are damaged, or it is not its preset and has no name.
    """
    config = load_saved_config(run_dir / CONFIG_FILE)
    points = tuple(read_points(run_dir)) if (run_dir / METRICS).is_file() else ()
    if not points:
        raise UserError(f"'{run_dir}' has no numbers to publish: its {METRICS} is empty or missing")
    card = make_card(run_dir, config, points, options)
    out = given_path("out", options.out) if options.out else checkout_dir() / "notebooks" / "results"
    name = options.name or run_name(card.env, card.algo, card.variant, card.seed)
    _refuse_to_overwrite(out, name)
    with whole_directory(out / name, replaces=True) as fresh:
        write_metrics(thin(points), fresh / METRICS)
        write_card(card, fresh / CARD)
        copy_pictures({path.name: path for path in (run_dir / "pictures").glob("*.png")}, fresh)
        if options.latents and traits(config).dreams:  # others have no states
            try:
                write_latents(latent_points(run_dir), fresh / LATENTS)
            except UserError as error:
                print(f"no latent states: {error}")
    return out / name


def _refuse_to_overwrite(out: Path, name: str) -> None:
    """A run of an experiment has the name of what is published of it: with `out=runs` it would be replaced."""
    check_directory_name("name", name, parent="out")
    place = out / name
    ours = {CARD, METRICS, LATENTS}
    if place.is_dir() and any(path.name not in ours and path.suffix != ".png" for path in place.iterdir()):
        raise UserError(f"'{place}' holds files that are no published run's: take another out= or name=")


def make_card(run_dir: Path, config: Config, points: Sequence[Point], options: PublishOptions) -> Card:
    """The card of a run, from its own files."""
    record = read_record(run_dir)
    tags = record.get("tags")
    last = max(point.seconds for point in points)
    seconds = record.get("seconds", last)
    return Card(
        env=config.env.name,
        algo=config.algo,
        variant=options.variant or _variant(config),
        seed=config.seed,
        demos=len(find_demos(config.env.name, config.demos, config.seed)),
        frames=max(point.frames for point in points),
        hours=round(max(last, float(seconds) if isinstance(seconds, (int, float)) else 0.0) / 3600, 3),
        status=str(record.get("status", "RUNNING")),
        expert_return=implied_expert_return(tuple(points)),
        command=make_command(config),
        commit=str(tags.get("commit", "unknown")) if isinstance(tags, dict) else "unknown",
        machine=options.machine or machine.in_words(),
        note=options.note,
    )


def _variant(config: Config) -> str:
    """What figures call a run that was given no other name; UserError if it would pass for the preset and is not."""
    changed = unnamed_changes(flatten(config), config.env.name, config.algo)
    if not changed:
        return variant_by(flatten(config), config.env.name, config.algo)
    raise UserError(
        f"the run is not its preset ({' '.join(changed)}): variant=<a word> says what figures call it, "
        f"variant={BASE} lets it count as the preset"
    )


def make_command(config: Config) -> str:
    """The `make train` command that gives this configuration, with every setting that the presets do not give."""
    return command_by(flatten(config), config.env.name, config.algo)


def thin(points: Sequence[Point], readings: int = READINGS) -> list[Point]:
    """The metrics to keep, each with at most `readings` evenly spaced readings and both ends; evaluations in full."""
    kept: list[Point] = []
    for name in dict.fromkeys(point.name for point in points):
        if not any(name.startswith(each) if each.endswith("/") else name == each for each in KEPT):
            continue
        own = [point for point in points if point.name == name]
        if len(own) > readings and not name.startswith("eval/"):
            own = evenly(own, readings)
        kept += own
    return sorted(kept, key=lambda point: (point.seconds, point.name))


def write_metrics(points: Sequence[Point], path: Path) -> None:
    """Writes readings in the form of a run's own `metrics.csv`, with six digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["frames", "seconds", "name", "value"])
        writer.writerows([point.frames, f"{point.seconds:.1f}", point.name, f"{point.value:.6g}"] for point in points)
