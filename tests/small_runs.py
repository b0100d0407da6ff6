"""Small whole runs for tests: what to pass to `vmil train`, and whether two of them are the same to the last bit.

Updates: 2 of pre-training, then 3 in each of four rounds of 12 frames; checkpoints after update 2, 8 (24 frames) and 14
(48 frames).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vmil.tracking.curves import read_points

PRETRAIN, UPDATES, ROUND, FRAMES = 2, 3, 12, 48
LAST_UPDATE = PRETRAIN + UPDATES * FRAMES // ROUND
SMALL = (
    "env=counting",
    "compute=debug",
    "env.episode_frames=12",
    f"training.frames={FRAMES}",
    f"training.frames_per_epoch={ROUND}",
    f"training.updates_per_epoch={UPDATES}",
    f"training.pretrain_updates={PRETRAIN}",
    "training.batch_size=3",
    "training.batch_length=6",
    "training.eval_every_frames=24",
    "training.image_log_every_frames=24",
    "training.checkpoint_every_frames=24",
    "behaviour.dream_starts=8",
)


def write_demos(directory: Path, steps: int = 12, **imported: Any) -> None:
    """Two counting demonstrations, whose actions say where they were taken; `imported`: as what."""
    directory.mkdir(parents=True)
    for index in range(2):
        task = {"env": "counting", "domain": "counting", "task": "counting"}
        meta = {"format": 1, **task, "action_repeat": 1, **imported}
        np.savez_compressed(
            directory / f"demo_{index:02d}.npz",
            physics=np.array([[100 + index, t] for t in range(steps + 1)], np.float64),
            action=np.linspace(-1, 1, steps, dtype=np.float32)[:, None],
            reward=np.full(steps, 0.5, np.float32),
            meta=np.array(json.dumps(meta)),
        )


def numbers(run: Path) -> list[tuple[int, str, str]]:
    """Every row of metrics.csv in its order, without what depends on the clock; nan as text, to equal itself."""
    timed = ("rate/", "run/", "system/", "time/", "eval/seconds")
    return [(p.frames, p.name, str(p.value)) for p in read_points(run) if not p.name.startswith(timed)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint, optimisers' too, by their path."""
    found: dict[str, torch.Tensor] = {}

    def walk(path: str, node: Any) -> None:
        if isinstance(node, torch.Tensor):
            found[path] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                walk(f"{path}/{key}", value)
        elif isinstance(node, (list, tuple)):
            for index, value in enumerate(node):
                walk(f"{path}/{index}", value)

    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    walk("", {key: content[key] for key in ("state_dict", "optimizer_states", "VMILDataModule", "callbacks")})
    return found


def assert_same_run(run: Path, other: Path) -> None:
    assert numbers(run) == numbers(other)
    mine, theirs = weights(run), weights(other)
    assert list(mine) == list(theirs)
    differing = [name for name in mine if not torch.equal(mine[name], theirs[name])]
    assert not differing, differing
