"""The few pictures of a run that are worth publishing, in fewer bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

T = TypeVar("T")

OPEN_LOOP = "open_loop.png"
PREDICTION, HISTOGRAM = "model_open_loop", "reward_histogram"  # prefixes of a run's own pictures
HISTOGRAMS = 3  # of the reward: the first, one in the middle, the last
COLOURS = 64  # a third of the bytes, with no visible loss


def evenly(series: Sequence[T], count: int) -> list[T]:
    """At most `count` of a series, with both ends."""
    if not series:
        return []
    return [series[index] for index in np.unique(np.linspace(0, len(series) - 1, count).round().astype(int))]


def copy_pictures(pictures: Mapping[str, Path], out: Path) -> None:
    """A run's last open-loop prediction and a few of its reward histograms, by their names in the run."""
    predictions = sorted(name for name in pictures if name.startswith(PREDICTION))
    if predictions:
        _shrink(pictures[predictions[-1]], out / OPEN_LOOP)
    for name in evenly(sorted(name for name in pictures if name.startswith(HISTOGRAM)), HISTOGRAMS):
        _shrink(pictures[name], out / name)


def _shrink(picture: Path, out: Path) -> None:
    Image.open(picture).convert("RGB").quantize(COLOURS).save(out, optimize=True)
