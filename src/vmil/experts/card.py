"""The card beside a set of demonstrations: how they were made and what they score, written from measurements only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vmil.envs.tasks import find_task
from vmil.experts.expert import Expert
from vmil.experts.replay_check import Discrepancy
from vmil.system.provenance import sha256, versions


@dataclass(frozen=True)
class DemoLine:
    """What the card says about one demonstration."""

    path: Path
    seed: int
    total: float
    steps: int
    scores: dict[str, float]
    check: Discrepancy


@dataclass(frozen=True)
class Recipe:
    """How demonstrations are chosen."""

    count: int
    seed: int  # of the first attempt
    min_return: float | None = None  # episodes below are left out
    action_noise: float = 0.0  # standard deviation of the noise on the expert's actions
    chosen: tuple[str, ...] = field(default=(), compare=False)  # key=value that named the expert, for the card alone


def write_card(
    out_dir: Path, env_name: str, expert: Expert, lines: list[DemoLine], recipe: Recipe, rejected: int
) -> Path:
    """Write `CARD.md`; rejected: how many episodes were left out."""
    about = expert.about()
    parts = [
        [f"# Expert and demonstrations: {env_name}", "", "Written by `vmil.experts.card` from measurements."],
        ["## Expert", "", *about] if about else [],
        _demo_part(lines, env_name, recipe, rejected),
        _replay_part(lines, expert),
        _digest_part([*expert.files(), *(line.path for line in lines)]),
    ]
    card = out_dir / "CARD.md"
    card.write_text("\n\n".join("\n".join(part) for part in parts if part) + "\n")
    return card


def _demo_part(lines: list[DemoLine], env_name: str, recipe: Recipe, rejected: int) -> list[str]:
    totals = np.asarray([line.total for line in lines])
    names = list(lines[0].scores)
    chosen = ["succeed"] if "success" in names else []
    chosen += [] if recipe.min_return is None else [f"return at least {recipe.min_return:g}"]
    table = [
        f"| {line.path.name} | {line.seed} | {line.steps} | {line.total:.1f} | "
        + "".join(f"{line.scores[name]:g} | " for name in names)
        + f"{line.path.stat().st_size / 1000:.0f} |"
        for line in lines
    ]
    packages = versions(*find_task(env_name).family.packages)
    return [
        "## Demonstrations",
        "",
        f"Made by `make demos ENV={env_name} N={len(lines)} SEED={recipe.seed} "
        f'ARGS="{_arguments(recipe)}"` (`vmil.experts.record.record_demos`): episodes of the expert plus '
        f"Gaussian noise of scale {recipe.action_noise:g} on its actions, clipped, from that seed on"
        f"{', those that ' + ' and '.join(chosen) if chosen else ''}; {rejected} left out. "
        f"Mean return **{totals.mean():.1f}**. "
        f"Versions: {', '.join(f'{name} {number}' for name, number in packages.items())}. "
        "`contact_sheet.png` shows up to ten of them, a row each.",
        "",
        f"| file | seed | agent steps | return | {''.join(f'{name} | ' for name in names)}kB |",
        "|---|---|---|---|" + "---|" * (len(names) + 1),
        *table,
    ]


def _arguments(recipe: Recipe) -> str:
    threshold = [] if recipe.min_return is None else [f"min_return={recipe.min_return:g}"]
    return " ".join([*recipe.chosen, *threshold, f"action_noise={recipe.action_noise:g}"])


def _replay_part(lines: list[DemoLine], expert: Expert) -> list[str]:
    checks = [line.check for line in lines]
    held = (
        "holds the solver's warm start, so single steps agree to the last bit"
        if expert.holds_warm_start
        else "has no solver warm start, so single steps agree to rounding only"
    )
    return [
        "## Replay",
        "",
        "Largest differences over all demonstrations, the stored actions played again where they were recorded:",
        "",
        f"- every step from its own stored state: {max(c.one_step_state for c in checks):.1e} in any state variable;",
        f"- the whole episode from its seed: {max(c.open_loop_state for c in checks):.1e} in any state "
        f"variable, {max(c.open_loop_return for c in checks):.1e} in the return (rewards are stored as float32).",
        "",
        f"The stored state {held}. On another processor or "
        "with other versions rounding differs and a whole episode may drift; single steps should not.",
    ]


def _digest_part(files: list[Path]) -> list[str]:
    return ["## SHA-256", "", "| file | digest |", "|---|---|", *(f"| {f.name} | `{sha256(f)}` |" for f in files)]
