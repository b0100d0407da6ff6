"""Noise on collected actions: as it was when white, and what correlation and spread make of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vmil.acting import ActionNoise

OPENING, LATER = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)


def play(noise: ActionNoise, steps: int, actions: int = 400) -> Tensor:
    """One episode's noise, (steps, actions)."""
    like = torch.zeros(1, actions)
    return torch.cat([noise(like, LATER if step else OPENING) for step in range(steps)])


def test_white_noise_is_fresh_at_every_step() -> None:
    torch.manual_seed(0)
    drawn = play(ActionNoise(lambda: 0.5), 6)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.cat([0.5 * torch.randn(1, 400) for _ in range(6)]))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_its_scale_stays_and_its_steps_are_as_alike_as_asked(correlation: float) -> None:
    torch.manual_seed(0)
    drawn = play(ActionNoise(lambda: 2.0, correlation=correlation), 40, actions=4000)
    assert torch.allclose(drawn.std(1), torch.full((40,), 2.0), rtol=0.06)  # 4000 draws: 1.1 % each
    alike = torch.stack([torch.corrcoef(drawn[t : t + 2])[0, 1] for t in range(39)])
    assert abs(alike.mean() - correlation) < 0.02


def test_an_episode_begins_with_noise_of_its_own() -> None:
    torch.manual_seed(0)
    noise = ActionNoise(lambda: 1.0, correlation=0.99)
    one = play(noise, 1, 4000)
    other = play(noise, 1, 4000)
    assert abs(torch.corrcoef(torch.cat([one, other]))[0, 1]) < 0.05


def test_each_episode_has_its_own_scale_and_keeps_it() -> None:
    torch.manual_seed(0)
    noise, scales = ActionNoise(lambda: 1.0, spread=0.5), []
    for _ in range(60):
        std = play(noise, 3, 4000).std(1)
        assert torch.allclose(std, std[:1].expand(3), rtol=0.06)
        scales.append(float(std[0]))
    assert 0.45 < min(scales) < 0.65
    assert 1.35 < max(scales) < 1.55


def test_rows_begin_apart() -> None:
    torch.manual_seed(0)
    noise, like = ActionNoise(lambda: 1.0, correlation=0.999), torch.zeros(2, 2000)
    first = noise(like, torch.ones(2, dtype=torch.bool))
    second = noise(like, torch.tensor([True, False]))
    assert torch.corrcoef(torch.stack([first[1], second[1]]))[0, 1] > 0.99
    assert abs(torch.corrcoef(torch.stack([first[0], second[0]]))[0, 1]) < 0.1
