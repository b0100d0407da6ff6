"""Means of metrics and times: what is not finite does not count, a round that is stopped within is reported whole."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from vmil.learner import meters
from vmil.learner.meters import Means, Stopwatch

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


def test_a_stage_s_time_is_the_mean_of_its_runs_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([10.0, 11.0, 20.0, 20.5, 30.0, 33.0, 40.0, 44.0])
    monkeypatch.setattr(meters, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    watch, device = Stopwatch(), torch.device("cpu")
    for name in ("model", "dream", "model"):
        with watch.stage(name, device):
            pass
    assert watch.drain() == {"time/model": 2.0, "time/dream": 0.5}  # (1 + 3) / 2
    with watch.stage("model", device):
        pass
    assert watch.drain() == {"time/model": 4.0}
    assert watch.drain() == {}
