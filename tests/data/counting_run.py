"""What the counting tests share: a policy and demonstrations that say where each action was taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vmil.config.schema import Config
from vmil.data.datamodule import VMILDataModule
from vmil.data.replay import Replay
from vmil.data.transition import Batch

STEPS = 20  # agent steps of an episode
REPEAT = 2
DEMO_EPISODE = 100  # the expert's episodes are counted from here


def action_of(episode: int, t: int) -> float:
    """An action in [-1, 1) that says where it was taken: at step t of that episode."""
    return ((episode * 7 + t * 3) % 64) / 32 - 1


class CountingPolicy:
    """Reads episode and step from the pixels and answers with the action that says so."""

    def __init__(self) -> None:
        self.opened: list[int] = []  # the episodes at whose first steps is_first was set
        self.proprio: Tensor | None = None

    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        assert image.ndim == 4
        assert image.dtype == torch.uint8
        self.proprio = proprio
        episode, t = int(image[0, 0, 0, 0]), 256 * int(image[0, 0, 0, 1]) + int(image[0, 0, 0, 2])
        if is_first:
            self.opened.append(episode)
        assert bool(is_first) == (t == 0)
        return torch.tensor([[action_of(episode, t)]])


def digests(replay: Replay) -> list[str]:
    """Of what it holds, episode by episode from the oldest."""
    return [entry["digest"] for entry in replay.state_dict()["shelves"]]


def write_demo(path: Path, episode: int = DEMO_EPISODE, steps: int = STEPS, **changes: Any) -> None:
    """A counting demonstration; `changes` replace arrays, or entries of meta."""
    arrays: dict[str, Any] = {
        "physics": np.array([[episode, t] for t in range(steps + 1)], dtype=np.float64),
        "action": np.array([[action_of(episode, t)] for t in range(steps)], dtype=np.float32),
        "reward": np.full(steps, 0.5, dtype=np.float32),
    }
    meta = {"format": 1, "env": "counting", "domain": "counting", "task": "counting", "action_repeat": REPEAT}
    for name, value in changes.items():
        (arrays if name in arrays else meta)[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, meta=np.array(json.dumps(meta)), **arrays)


def module(config: Config, directory: Path | None = None) -> VMILDataModule:
    """A data module whose demonstrations are read, with a policy that counts."""
    data = VMILDataModule(config, CountingPolicy(), directory)
    data.setup()
    return data


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in ("image", "action", "is_first"))


def taken(data: VMILDataModule, count: int) -> list[Batch]:
    """Its next batches, of as many epochs as it takes, the last of which is left where it is."""
    got: list[Batch] = []
    while len(got) < count:
        for batch in data.epoch():
            got.append(batch)
            if len(got) == count:
                break
    return got
