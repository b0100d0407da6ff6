"""Where a run's demonstrations lie and which of them it takes: no torch, so that a wrong path is answered at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vmil.config.runs import assets_dir
from vmil.config.schema import DemosConfig
from vmil.errors import UserError
from vmil.system.paths import given_path


def available_demos(env: str, demos: DemosConfig) -> list[Path]:
    """Every demonstration of `demos.path`, or of those shipped for `env`, in the order of their names.

    UserError if there is none.
    """
    if demos.path is not None:
        directory = given_path("demos.path", demos.path)
    else:
        directory = assets_dir(env) / "demos"
        if not directory.is_dir():
            raise UserError(f"no demonstrations are shipped for env {env}: give demos.path=<directory of demo_*.npz>")
    if not directory.is_dir():
        raise UserError(f"demos.path={directory} is not a directory")
    paths = sorted(directory.glob("demo_*.npz"))
    if not paths:
        within = directory / "demos"
        hint = f", but {within} does" if any(within.glob("demo_*.npz")) else ""
        hint = hint or (": `make import-demos` converts other formats" if any(directory.iterdir()) else "")
        raise UserError(f"{directory} holds no demonstration (demo_*.npz){hint}")
    return paths


def find_demos(env: str, demos: DemosConfig, seed: int) -> list[Path]:
    """The `demos.count` files of this run, drawn by `seed`, or all of them; UserError if there are fewer.

    For one seed the draws are nested: the two of `count=2` are among the five of `count=5`, so that runs which differ
    in the number of demonstrations differ in nothing else.
    """
    paths = available_demos(env, demos)
    count = len(paths) if demos.count is None else demos.count
    if not 1 <= count <= len(paths):
        raise UserError(
            f"demos.count={count}, but {paths[0].parent} has {len(paths)} demonstrations (demo_*.npz): "
            "demos.count=null takes all"
        )
    chosen = np.random.default_rng(seed).permutation(len(paths))[:count]
    return [paths[index] for index in sorted(chosen)]


def joint_digest(digests: Iterable[str]) -> str:
    """Which demonstrations a run imitates: SHA-256 (hex) of those of their files, in the order of their names."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()
