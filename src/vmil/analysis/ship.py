"""A run's policy as one that comes with the package: the weights that act, their configuration, and a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmil.analysis.publish import make_command
from vmil.config.load import load_saved_config, save_config
from vmil.config.runs import CONFIG_FILE, POLICY_FILE, last_checkpoint, pretrained_dir
from vmil.config.schema import ComputeConfig, Config, DemosConfig, RunConfig, TrackingConfig
from vmil.config.schema_cli import ShipOptions
from vmil.envs.rendering import prepare_rendering
from vmil.envs.tasks import find_task
from vmil.errors import UserError
from vmil.evaluation.rollout import SEED_OFFSET
from vmil.evaluation.scores import Score
from vmil.learner.device import playable
from vmil.system import machine
from vmil.system.files import whole_directory
from vmil.system.paths import given_path
from vmil.system.provenance import git_commit, sha256, versions
from vmil.tracking.record import read_record
from vmil.training.assembly import LearnerFactory, prepare_torch
from vmil.training.pretrained import evaluate_pretrained, load_policy, save_policy
from vmil.training.restore import frames_in
from vmil.training.trained import expert_return, imported_as, trained_learner

CARD = "CARD.md"


def ship_run(run_dir: Path, make_learner: LearnerFactory, options: ShipOptions, episodes: int) -> Path:
    """Writes the policy of the run's last checkpoint, replacing an earlier one; returns its directory.

    What is scored, over `episodes` episodes, is the written file, read back; with 0 it is read back only.

    Raises:
        UserError: no checkpoint, too large, or the place is taken by other files.
    """
    config = playable(load_saved_config(run_dir / CONFIG_FILE))
    out = given_path("out", options.out) if options.out else pretrained_dir(config.env.name)
    _refuse_to_overwrite(out)
    prepare_rendering(config.env)
    prepare_torch(config)
    learner, checkpoint = trained_learner(run_dir, config, make_learner)
    learnt = f"{frames_in(last_checkpoint(run_dir), checkpoint):,}, {int(learner.updates_done):,}"
    with whole_directory(out, replaces=True) as fresh:
        imported = imported_as(config)
        save_policy(learner.evaluation_policy(), fresh / POLICY_FILE, expert_return(config), imported)
        save_config(portable(config), fresh / CONFIG_FILE)
        if episodes == 0:
            load_policy(fresh, config, make_learner)
        score = evaluate_pretrained(fresh, make_learner, episodes, None) if episodes else None
        rows = {**origin(run_dir, config, learnt, options), **_units(imported)}
        (fresh / CARD).write_text(card(config, rows, score, fresh), encoding="utf-8")
    return out


def portable(config: Config) -> Config:
    """The configuration without what belongs to the machine and the run: paths, device, threads, tracking."""
    demos = config.demos
    path = None if demos.path is None else Path(demos.path).name
    demos = replace(demos, path=path, cache_dir=DemosConfig().cache_dir)
    return replace(config, demos=demos, compute=ComputeConfig(), tracking=TrackingConfig(), run=RunConfig())


def origin(run_dir: Path, config: Config, learnt: str, options: ShipOptions) -> dict[str, object]:
    """The card's table, from the run's own record; `learnt`: from how many frames, in how many updates."""
    record = read_record(run_dir)
    tags, seconds = record.get("tags"), record.get("seconds")
    tags = tags if isinstance(tags, dict) else {}
    return {
        "task": config.env.name,
        "algorithm": f"{config.algo} (learner {config.learner})",
        "command": f"`{make_command(config)}`",
        "seed": config.seed,
        "environment frames, updates": learnt,
        "wall-clock": f"{seconds / 3600:.2f} h" if isinstance(seconds, (int, float)) else "unknown",
        "machine": options.machine or machine.in_words(),
        "commit": f"{tags.get('commit', 'unknown')} (`+`: with changes); scored at {git_commit()}",
        "the run": record.get("status", "RUNNING"),
        "demonstrations": f"digest `{tags.get('demos', 'unknown')}`",
        **({"note": options.note} if options.note else {}),
    }


def card(config: Config, rows: dict[str, object], score: Score | None, directory: Path) -> str:
    """`CARD.md`, from measurements only; score: None if it was not played."""
    packages = versions("torch", *find_task(config.env.name).family.packages)
    size = (directory / POLICY_FILE).stat().st_size / 1e6
    alarm = ["**Not imitation: it learnt from the environment's reward.**", ""]
    return "\n".join(
        [
            f"# Trained policy: {config.env.name}",
            "",
            "Written by `vmil.analysis.ship` from measurements.",
            "",
            *(alarm if config.debug.use_ground_truth_reward else []),
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in rows.items()),
            "",
            "## Score",
            "",
            *_score_words(score, config.seed + SEED_OFFSET),
            f"Versions: {', '.join(f'{name} {number}' for name, number in packages.items())}.",
            "",
            "## Files",
            "",
            f"The weights ({size:.2f} MB, safetensors) are those that act, and no others: it cannot be trained on.",
            "",
            "| file | SHA-256 |",
            "|---|---|",
            *(f"| {name} | `{sha256(directory / name)}` |" for name in (POLICY_FILE, CONFIG_FILE)),
            "",
        ]
    )


def _units(imported: Mapping[str, Any]) -> dict[str, object]:
    """What one needs to show it what its demonstrations showed, and to act as they did."""
    if not imported:
        return {}
    low, high = imported.get("action_low"), imported.get("action_high")
    scaled = f"`low + (action + 1) / 2 * (high - low)`, low {low}, high {high}"
    return {
        "pictures": f"resize={imported.get('resize')}",
        "vector": ", ".join(imported.get("proprio") or ()) or "none",
        "actions in the robot's units": "as they are" if low is None else scaled,
        "alignment of the source": imported.get("alignment"),
    }


def _score_words(score: Score | None, seed: int) -> list[str]:
    if score is None:
        return ["Not scored: `episodes=0`.", ""]
    return [
        f"**{score}** (95 % interval of the mean return {score.low:.1f} to {score.high:.1f}, interquartile mean "
        f"{score.iqm:.1f}): deterministic episodes from seed {seed:,} on, played with the file below. Elsewhere "
        "rounding differs, and with it single episodes.",
        "",
    ]


def _refuse_to_overwrite(out: Path) -> None:
    if out.is_file() or (out.is_dir() and {path.name for path in out.iterdir()} - {POLICY_FILE, CONFIG_FILE, CARD}):
        raise UserError(f"'{out}' holds files that are no trained policy's: take another out=")
