"""Random shifts: whole pictures, whole pixels, repeated edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vmil.baselines.augment import random_shift

PAD, SIZE = 4, 12


def pictures(count: int, channels: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, SIZE, SIZE, channels), dtype=torch.uint8, generator=generator)


def shift_of(picture: Tensor, moved: Tensor) -> tuple[int, int]:
    """By how much `picture` was moved, found by padding and cropping it in every way."""
    padded = np.pad(picture.numpy(), ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge")
    [found] = [
        (row - PAD, column - PAD)
        for row in range(2 * PAD + 1)
        for column in range(2 * PAD + 1)
        if (padded[row : row + SIZE, column : column + SIZE] == moved.numpy()).all()
    ]
    return found


def test_every_stack_moves_as_a_whole_by_a_shift_of_its_own() -> None:
    torch.manual_seed(0)
    before = pictures(400)
    after = random_shift(before, PAD)
    assert after.shape == before.shape
    assert after.dtype == torch.uint8
    shifts = [shift_of(*pair) for pair in zip(before, after, strict=True)]
    for axis in range(2):
        assert {shift[axis] for shift in shifts} == set(range(-PAD, PAD + 1))
    assert len(set(shifts)) > 70  # of 81; along both axes independently


def test_a_seed_repeats_the_shifts() -> None:
    before, after = pictures(20), []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        after.append(random_shift(before, PAD))
    assert torch.equal(after[0], after[1])
    assert not torch.equal(after[0], after[2])
    assert not torch.equal(after[2], random_shift(before, PAD))


@pytest.mark.parametrize("channels", [3, 9])
def test_without_room_to_move_nothing_does(channels: int) -> None:
    before = pictures(3, channels)
    assert torch.equal(random_shift(before, 0), before)
