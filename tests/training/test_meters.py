"""Means of a round: what is not finite does not count, and a round that is stopped within is reported whole."""

from __future__ import annotations

import math

import pytest
import torch

from vmil.learner.meters import Means

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("kind", [torch.tensor, float])
def test_readings_that_are_not_finite_do_not_count(kind: type) -> None:
    means = Means()
    for loss, norm in ((1.0, NAN), (NAN, INF), (-INF, NAN), (4.0, -INF)):
        means.add({"model/loss": kind(loss), "model/grad_norm": kind(norm), "disc/noise_std": 0.5})
    assert float(means.now()["model/loss"]) == 2.5
    assert means.drain() == pytest.approx(
        {"model/loss": 2.5, "model/grad_norm": NAN, "disc/noise_std": 0.5}, nan_ok=True
    )
    assert means.drain() == {}


def test_a_round_goes_on_from_its_state_even_if_a_number_becomes_a_tensor() -> None:
    whole, first, second = Means(), Means(), Means()
    readings = [torch.tensor(0.1), torch.tensor(NAN), torch.tensor(0.7), 0.25, torch.tensor(0.3)]
    for index, reading in enumerate(readings):
        whole.add({"model/loss": reading})
        (first if index < 2 else second).add({"model/loss": reading})
        if index == 1:
            second.load_state_dict(first.state_dict())
    assert first.state_dict() == {"model/loss": (pytest.approx(0.1), 1)}
    assert second.drain() == whole.drain() == {"model/loss": pytest.approx(1.35 / 4)}
