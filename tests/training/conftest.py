"""Whole runs that several files look at, see `place`; learners that train without a Trainer, see `small_learner`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from place import Place, Watch
from small_learner import SMALL, A
from small_runs import write_demos

from vmil.config.load import load_config
from vmil.data.pace import Pace
from vmil.training.vmil import VMIL


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_demos(tmp_path / "demos")
    return Place(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run that nothing stops, its place, and what was seen of it; not to be changed."""
    place, watch = Place(tmp_path_factory.mktemp("whole")), Watch()
    write_demos(place.root / "demos")
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch)
        assert place.train("whole") == 0
    return SimpleNamespace(run=place.root / "whole", place=place, watch=watch)


@pytest.fixture
def stopped(whole: SimpleNamespace, tmp_path: Path) -> Place:
    """A place with a copy of the whole run, to be spoilt."""
    shutil.copytree(whole.run, tmp_path / "run")
    shutil.copytree(whole.place.root / "demos", tmp_path / "demos")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(whole.place.root), str(tmp_path)))
    return Place(tmp_path)


@pytest.fixture
def make_learner(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VMIL]:
    """A learner that trains without a Trainer."""

    def make(*overrides: str, proprio: int = 0, seed: int = 0) -> VMIL:
        torch.manual_seed(seed)
        learner = VMIL(load_config([*SMALL, *overrides]), A, proprio)
        learner.clock = Pace(learner.config)
        optimizers = learner.configure_optimizers()
        monkeypatch.setattr(VMIL, "optimizers", lambda self: optimizers)
        monkeypatch.setattr(VMIL, "manual_backward", lambda self, loss: loss.backward())
        return learner

    return make
