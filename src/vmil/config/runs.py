"""Where finished and unfinished runs lie, and which one a person means."""

from __future__ import annotations

from pathlib import Path

import vmil
from vmil.config import keys
from vmil.errors import UserError
from vmil.system.paths import given_path

CONFIG_FILE = "config.yaml"  # what makes a directory a run
LOCK_FILE = ".lock"  # in it, held by the process that makes the run
CHECKPOINTS = "checkpoints"  # in it, the directory of what follows
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
REPLAY = "replay"  # the directory beside them where the data module keeps the episodes
ASSETS, PRETRAINED = "assets", "pretrained"  # assets/<env> in the package: what came with it; of that, a policy
POLICY_FILE = "policy.safetensors"  # what makes a directory a trained policy
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
    for candidate in (given_path("run", which), root / which):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    near = keys.nearest(which, [path.parent.name for path in runs])
    raise UserError(f"'{which}' is not a run: neither it nor '{root / which}' holds a {CONFIG_FILE}{near}")


def last_checkpoint(run_dir: Path) -> Path:
    """What the run is resumed from, and what it has learnt."""
    return run_dir / CHECKPOINTS / LAST


def replay_dir(run_dir: Path) -> Path:
    """Where the run keeps the episodes that its agent has played."""
    return run_dir / CHECKPOINTS / REPLAY


def file_name(env: str) -> str:
    """A task's name where paths and identifiers hold it: `dmc-cartpole-swingup`."""
    return env.replace(":", "-")


def assets_dir(env: str) -> Path:
    """Where in the package lies what came with it for a task: expert, demonstrations, trained policy."""
    return Path(vmil.__file__).parent / ASSETS / file_name(env)


def pretrained_dir(env: str) -> Path:
    """Where in the package the trained policy of a task lies."""
    return assets_dir(env) / PRETRAINED


def shipped_policies() -> list[str]:
    """The tasks for which a trained policy lies in the package."""
    package = Path(vmil.__file__).parent
    return sorted(path.parents[1].name for path in package.glob(f"{ASSETS}/*/{PRETRAINED}/{POLICY_FILE}"))


def find_pretrained(which: str) -> Path:
    """The directory of a trained policy: the one that came with vmil for that task, or one that `make ship` wrote.

    Raises `UserError` naming those that came with vmil when there is none.
    """
    for candidate in (pretrained_dir(which), given_path("pretrained", which)):
        if (candidate / POLICY_FILE).is_file():
            return candidate
    known = shipped_policies()
    there = f"there are: {', '.join(known)}" if known else "none came with this vmil: `make ship RUN=…` makes one"
    raise UserError(f"there is no trained policy '{which}' ({there}){keys.nearest(which, known)}")


def run_name(env: str, algo: str, variant: str, seed: int) -> str:
    """`walker-vmil-s0`, or `walker-vmil-demos5-s0` for a variant."""
    parts = [file_name(env), algo, *([] if variant == BASE else [variant]), f"s{seed}"]
    return "-".join(parts)
