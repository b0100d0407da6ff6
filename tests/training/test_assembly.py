"""What a run is before it learns: how torch is set up, and what is said of where it lies."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from vmil.config.load import load_config
from vmil.config.runs import replay_dir
from vmil.data.footprint import Footprint
from vmil.errors import UserError
from vmil.learner.device import playable
from vmil.tracking.record import update_record
from vmil.training import assembly
from vmil.training.assembly import prepare_torch


@pytest.fixture
def _torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(assembly, "keep_memory", lambda: None)
    before = torch.backends.cudnn.benchmark, torch.get_num_threads(), torch.get_float32_matmul_precision()
    yield
    torch.backends.cudnn.benchmark = before[0]
    torch.set_num_threads(before[1])
    torch.set_float32_matmul_precision(before[2])
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_torch_as_it_was")
def test_kernels_are_tried_out_unless_runs_must_be_the_same_to_the_last_bit() -> None:
    for deterministic in (True, False):
        prepare_torch(load_config(["compute.threads=1", f"debug.deterministic={str(deterministic).lower()}"]))
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert torch.backends.cudnn.benchmark is not deterministic


@pytest.mark.parametrize("place", [None, torch.device("cuda", 1)])
def test_where_the_replay_lies_is_said_if_it_is_the_gpu(
    place: torch.device | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = SimpleNamespace(place=place, footprint=Footprint(10, 10))
    with caplog.at_level(logging.INFO, logger=assembly.__name__):
        assembly._introduce(load_config(["compute=cpu"]), tmp_path, cast(Any, data))
    assert ("replay and demonstrations lie on cuda:1" in caplog.text) == (place is not None)


def test_a_run_that_goes_on_needs_no_room_for_what_it_has_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = cast(Any, SimpleNamespace(place=None, footprint=Footprint(2 * 10**9, 10)))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    with pytest.raises(UserError, match=r"1\.0 GB free, and this run may need 2\.5 GB"):
        assembly._introduce(load_config(["compute=cpu"]), tmp_path, data)
    replay_dir(tmp_path).mkdir(parents=True)
    with (replay_dir(tmp_path) / "episode_000000.safetensors.gz").open("wb") as file:
        file.truncate(16 * 10**8)  # takes no room here, but says that it does
    assembly._introduce(load_config(["compute=cpu"]), tmp_path, data)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], ""),
        (["collector.overlap=true"], "episodes are played 1 at a time: process, while it learns"),
        (["collector.workers=2", "training.frames_per_epoch=2000"], "episodes are played 2 at a time: process"),
    ],
)
def test_who_plays_is_said_if_it_is_not_the_learner_by_turns(
    settings: list[str], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = SimpleNamespace(place=None, footprint=Footprint(10, 10))
    config = load_config(["compute=cpu", "collector.backend=process", *settings])
    with caplog.at_level(logging.INFO, logger=assembly.__name__):
        assembly._introduce(config, tmp_path, cast(Any, data))
    assert [text for text in caplog.messages if "are played" in text] == ([said] if said else [])


def test_who_only_plays_needs_no_gpu_for_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = load_config(["compute=gpu", "compute.replay=device"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (playable(trained).compute.device, playable(trained).compute.replay) == ("cpu", "auto")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert playable(trained).compute.replay == "device"


def test_a_run_names_every_commit_that_trained_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    for commit in ("one", "one", "two+", "one"):
        monkeypatch.setattr(assembly, "git_commit", lambda commit=commit: commit)
        kept.append(assembly._commits(tmp_path))
        update_record(tmp_path, tags={"commit": kept[-1], "env": "walker"})
    assert kept == ["one", "one", "one, two+", "one, two+"]
