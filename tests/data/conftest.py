"""A counting run, small enough for milliseconds: 20 steps an episode, 8 x 8 pixels, demonstrations that count too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from counting_run import DEMO_EPISODE, REPEAT, STEPS, write_demo
from torch import Tensor

from vmil.config.schema import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A counting run with three demonstrations."""
    for index in range(3):
        write_demo(tmp_path / "demos" / f"demo_{index:02d}.npz", DEMO_EPISODE + index)
    config = Config()
    config.env.name = "counting"
    config.env.image_size, config.env.action_repeat, config.env.episode_frames = 8, REPEAT, STEPS * REPEAT
    config.demos.path, config.demos.count, config.demos.cache_dir = str(tmp_path / "demos"), 2, str(tmp_path / "cache")
    training = config.training
    training.frames, training.frames_per_epoch, training.replay_frames = 400, 80, 400
    training.pretrain_updates, training.updates_per_epoch = 2, 3
    training.batch_size, training.batch_length, training.demo_fraction = 8, 6, 0.25
    return config


@pytest.fixture
def decode() -> Callable[[Tensor], Tensor]:
    """(episode, t) of pictures (..., H, W, 3): (..., 2) int64, from one pixel after checking that all agree."""

    def read(image: Tensor) -> Tensor:
        assert (image == image[..., :1, :1, :]).all()
        episode, high, low = image[..., 0, 0, :].long().unbind(-1)
        return torch.stack([episode, 256 * high + low], -1)

    return read
