"""The card beside planned demonstrations: how they were made and what they score, written from measurements only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vmil.experts.plan import Attempt
from vmil.experts.provenance import machine, sha256, versions
from vmil.experts.replay_check import Replay


@dataclass(frozen=True)
class DemoLine:
    """What the card says about one demonstration."""

    path: Path
    attempt: Attempt
    check: Replay


def write_card(out: Path, lines: list[DemoLine], attempts: int, settings: dict[str, Any], seed: int) -> Path:
    """Write `CARD.md` into `out`."""
    parts = [
        ["# Demonstrations: baoding", "", "Written by `vmil.experts.plan_card` from measurements."],
        _how(lines, attempts, settings, seed),
        _table(lines),
        _replay(lines),
    ]
    card = out / "CARD.md"
    card.write_text("\n\n".join("\n".join(part) for part in parts) + "\n")
    return card


def _how(lines: list[DemoLine], attempts: int, settings: dict[str, Any], seed: int) -> list[str]:
    scores = {name: [line.attempt.meta["scores"][name] for line in lines] for name in ("tracking_error", "on_target")}
    listed = ", ".join(f"{name}={value}" for name, value in settings.items() if value is not None)
    seconds = np.array([line.attempt.meta["seconds"] for line in lines])
    installed = ", ".join(f"{name} {number}" for name, number in versions("mujoco", "gymnasium-robotics").items())
    return [
        "## How",
        "",
        f"- Made by `make demos ENV=baoding COUNT={len(lines)} SEED={seed}`: MPPI (`vmil.experts.mppi`), {listed}.",
        f"- {len(lines)} of {attempts} episodes succeeded and were kept; the others were given up as soon as a ball was "
        "dropped or more than a quarter of the control steps was off target.",
        f"- Mean tracking error **{100 * np.mean(scores['tracking_error']):.2f} cm**, on target in "
        f"**{100 * np.mean(scores['on_target']):.0f} %** of the control steps, "
        f"{np.mean(seconds):.0f} s of planning each on a machine with {machine()}.",
        "- Each ball starts up to 3 mm from its place in every direction, drawn from the seed and episode below.",
        f"- Versions: {installed}.",
    ]


def _table(lines: list[DemoLine]) -> list[str]:
    rows = [
        f"| {line.path.name} | {meta['seed']} | {meta['episode']} | {len(line.attempt.action)} | "
        f"{meta['scores']['on_target']:.2f} | {100 * meta['scores']['tracking_error']:.2f} | "
        f"{line.path.stat().st_size / 1000:.0f} | `{sha256(line.path)}` |"
        for line in lines
        for meta in [line.attempt.meta]
    ]
    return [
        "## Demonstrations",
        "",
        "| file | seed | episode | steps | on target | error [cm] | kB | SHA-256 |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _replay(lines: list[DemoLine]) -> list[str]:
    checks = [line.check for line in lines]
    return [
        "## Replay",
        "",
        "Largest differences over all demonstrations, the stored actions played again where they were recorded:",
        "",
        f"- every step from its own stored state: {max(c.one_step_state for c in checks):.1e} in any state variable;",
        f"- the whole episode from its first state: {max(c.open_loop_state for c in checks):.1e} in any state variable, "
        f"{max(c.open_loop_return for c in checks):.1e} in the return.",
        "",
        "The stored state holds the solver's warm start, so that a replay is exact. On another processor rounding "
        "differs, and with so many contacts a whole episode soon drifts; single steps should not.",
    ]
