"""The card beside a set of demonstrations: how they were made and what they score, written from measurements only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vmil.experts.provenance import sha256, versions
from vmil.experts.replay_check import Replay


@dataclass(frozen=True)
class DemoLine:
    """What the card says about one demonstration."""

    path: Path
    seed: int
    total: float
    steps: int
    check: Replay


@dataclass(frozen=True)
class Recipe:
    """How the demonstrations were chosen: arguments of `record_demos`, and how many episodes were left out."""

    seed: int
    min_return: float
    action_noise: float
    rejected: int


def write_card(out_dir: Path, actor_path: Path, env_name: str, lines: list[DemoLine], recipe: Recipe) -> Path:
    """Write `CARD.md`; the training part comes from the `expert.json` beside the actor, where there is one."""
    provenance = actor_path.with_name("expert.json")
    training = json.loads(provenance.read_text()) if provenance.exists() else None
    extra = [provenance] if training else []
    parts = [
        [f"# Expert and demonstrations: {env_name}", "", "Written by `vmil.experts.card` from measurements."],
        _expert_part(training),
        _demo_part(lines, recipe),
        _replay_part(lines),
        _digest_part([actor_path, *extra, *(line.path for line in lines)]),
    ]
    card = out_dir / "CARD.md"
    card.write_text("\n\n".join("\n".join(part) for part in parts if part) + "\n")
    return card


def _expert_part(training: dict[str, Any] | None) -> list[str]:
    if training is None:
        return []
    scores = np.asarray(training["returns"])
    changed = ", ".join(f"{key}={value}" for key, value in training["config"].items())
    return [
        "## Expert",
        "",
        f"- Made by `make expert ENV={training['env']} SEED={training['seed']}`: SAC from state "
        f"(`vmil.experts.sac.train_expert`, seed={training['seed']}), settings {changed}.",
        f"- The actor is the best of {len(training['curve'])} evaluations, after {training['actor_frames']:,} of "
        f"{training['frames']:,} environment frames; all of it took {training['seconds'] / 60:.0f} minutes on one "
        f"thread of a machine with {training['machine']}.",
        f"- Return over {len(scores)} deterministic episodes (initial states of seeds {training['returns_seed']} ff., "
        f"neither trained on nor used to choose the actor): **{scores.mean():.1f} ± {scores.std():.1f}**, "
        f"lowest {scores.min():.1f}, highest {scores.max():.1f}.",
        f"- Versions: {_join(training['versions'])}.",
        "- Input: the task's observations, flattened and concatenated in the order named in the file's metadata; "
        "action: tanh of the first half of the output.",
    ]


def _demo_part(lines: list[DemoLine], recipe: Recipe) -> list[str]:
    totals = np.asarray([line.total for line in lines])
    table = [
        f"| {line.path.name} | {line.seed} | {line.steps} | {line.total:.1f} | {line.path.stat().st_size / 1000:.0f} |"
        for line in lines
    ]
    return [
        "## Demonstrations",
        "",
        f"Made by `vmil.experts.record.record_demos`, count={len(lines)}, seed={recipe.seed}, "
        f"min_return={recipe.min_return:g}, action_noise={recipe.action_noise:g}: episodes of the expert's mode plus "
        f"Gaussian noise of that scale, from that seed on, that return at least that much; {recipe.rejected} left out. "
        f"Mean return **{totals.mean():.1f}**. "
        f"Versions: {_join(versions('dm_control', 'mujoco'))}.",
        "",
        "| file | seed | agent steps | return | kB |",
        "|---|---|---|---|---|",
        *table,
    ]


def _replay_part(lines: list[DemoLine]) -> list[str]:
    checks = [line.check for line in lines]
    return [
        "## Replay",
        "",
        "Largest differences over all demonstrations, the stored actions played again where they were recorded:",
        "",
        f"- every step from its own stored state: {max(c.one_step_state for c in checks):.1e} in any state variable;",
        f"- the whole episode from its first state: {max(c.open_loop_state for c in checks):.1e} in any state "
        f"variable, {max(c.open_loop_return for c in checks):.1e} in the return (rewards are stored as float32).",
        "",
        "The stored state has no solver warm start, so single steps agree to rounding only. On another processor or "
        "with other versions rounding differs and a whole episode may drift; single steps should not.",
    ]


def _digest_part(files: list[Path]) -> list[str]:
    return ["## SHA-256", "", "| file | digest |", "|---|---|", *(f"| {f.name} | `{sha256(f)}` |" for f in files)]


def _join(installed: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in installed.items())
