"""The warnings about numbers outside their healthy ranges: when they come, and that no checkpoint forgets them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tiny_run import Run

from vmil.config.load import load_config
from vmil.training.flush import TrackingFlush, Watchdog

pytestmark = pytest.mark.filterwarnings("ignore")


def test_the_watchdog_barks_once_per_metric_and_only_at_lasting_trouble(caplog: pytest.LogCaptureFixture) -> None:
    tags: dict[str, str] = {}
    tracker = cast(Any, SimpleNamespace(tags=tags.update))
    watchdog = Watchdog(load_config(["env=counting", "training.frames_per_epoch=100"]), tracker, patience=2)
    said = []
    with caplog.at_level(logging.WARNING, "vmil"):
        for frames, accuracy in zip(range(300, 800, 100), [1.0, 0.7, 1.0, 1.0, 1.0], strict=True):
            readings = {"disc/accuracy": accuracy, "disc/dream_accuracy": accuracy, "disc/replay_accuracy": 0.7}
            said.append(watchdog(readings, frames))
        watchdog({"model/loss": float("nan")}, 900)
    assert [record.message.split(" is ")[0] for record in caplog.records] == [
        "after 600 frames disc/accuracy = 1",
        "after 600 frames health/filter_gap = 0.3",
        "after 900 frames model/loss",
    ]
    assert set(tags) == {"health.D_saturated", "health.D_tells_filter_from_dream", "health.not_a_number"}
    assert tags["health.not_a_number"].startswith("after 900 frames model/loss is nan")
    assert said[0] == {"health/filter_gap": pytest.approx(0.3), "health/warnings": 2.0}
    assert said[1] == {"health/filter_gap": 0.0, "health/warnings": 0.0}


def test_the_watchdog_does_not_forget_over_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    tracker = cast(Any, SimpleNamespace(tags=lambda _: None, state_dict=dict, load_state_dict=lambda _: None))
    config = load_config(["env=counting", "training.frames_per_epoch=100"])
    first, second, third = (TrackingFlush(tracker, Watchdog(config, tracker, patience=3)) for _ in range(3))
    ill, well = {"disc/accuracy": 1.0}, {"disc/accuracy": 0.7}
    with caplog.at_level(logging.WARNING, "vmil"):
        first._watchdog(ill, 300), first._watchdog(ill, 400)
        second.load_state_dict(first.state_dict())
        second._watchdog(ill, 500)  # the third in a row: two are the first's
        third.load_state_dict(second.state_dict())
        for frames in range(600, 1000, 100):  # said before
            third._watchdog(ill, frames)
    assert [record.message.split(" is ")[0] for record in caplog.records] == ["after 500 frames disc/accuracy = 1"]
    third._watchdog(well, 1000)
    assert third.state_dict()["watchdog"] == {"sick": {}, "warned": ["disc/accuracy"]}


def test_a_checkpoint_keeps_what_the_watchdog_knows(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.find(TrackingFlush)._watchdog._sick["model/kl"] = 2
    run.find(TrackingFlush)._watchdog._warned.add("model/kl")
    run.fit()
    path = tmp_path / "checkpoints" / "last.ckpt"
    [state] = [s for s in torch.load(path, weights_only=True)["callbacks"].values() if "watchdog" in s]
    assert state["watchdog"] == {"sick": {"model/kl": 2}, "warned": ["model/kl"]}
    assert state["csv_bytes"] > 0
    resumed = Run(tmp_path).fit(resume=path)
    assert resumed.find(TrackingFlush)._watchdog.state_dict() == state["watchdog"]
