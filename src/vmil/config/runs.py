"""Where finished and unfinished runs lie, and which one a person means."""

from __future__ import annotations

from pathlib import Path

from vmil.config import keys
from vmil.config.errors import UserError

CONFIG_FILE = "config.yaml"  # what makes a directory a run
BASE = "base"  # the variant of a run that is its preset, nothing changed


def find_run(which: str, root: Path) -> Path:
    """The run directory that `which` names: a path, a directory under `root`, or `latest` (started last).

    Raises `UserError` naming the nearest run when there is none.
    """
    runs = sorted(root.glob(f"*/{CONFIG_FILE}"), key=lambda path: path.stat().st_mtime)
    if which == "latest":
        if not runs:
            raise UserError(f"there is no run under '{root}' yet: start one with `make train`")
        return runs[-1].parent
    for candidate in (Path(which).expanduser(), root / which):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    near = keys.nearest(which, [path.parent.name for path in runs])
    raise UserError(f"'{which}' is not a run: neither it nor '{root / which}' holds a {CONFIG_FILE}{near}")


def run_name(env: str, algo: str, variant: str, seed: int) -> str:
    """`walker-vmil-s0`, or `walker-vmil-demos5-s0` for a variant."""
    parts = [env.replace(":", "-"), algo, *([] if variant == BASE else [variant]), f"s{seed}"]
    return "-".join(parts)
