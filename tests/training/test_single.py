"""A task of which there is only one, as of a real robot: it is never open twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import SMALL, weights, write_demos

from vmil import cli
from vmil.config.load import load_config
from vmil.envs import counting, tasks
from vmil.envs.counting import CountingEnv
from vmil.errors import UserError
from vmil.experiments.grid import Cell
from vmil.experiments.resources import GIB, Machine, make_plan
from vmil.learner.device import evaluates_in_background

pytestmark = pytest.mark.filterwarnings("ignore")


class OnlyEnv(CountingEnv):
    """Refuses to be open twice."""

    open_now = 0
    begun = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        assert OnlyEnv.open_now == 0, "it is open already"
        OnlyEnv.open_now += 1

    def _begin(self) -> None:
        OnlyEnv.begun += 1

    def close(self, *, raise_if_closed: bool = True) -> None:
        OnlyEnv.open_now -= not self.is_closed
        super().close(raise_if_closed=raise_if_closed)


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(make=lambda config, seed, task: OnlyEnv(config, seed), measure=counting.measure)
    family = replace(tasks.COUNTING, module=lambda: module, single=True)
    monkeypatch.setitem(tasks.TASKS, "counting", tasks.Task(family, "counting", "counting"))
    OnlyEnv.open_now = OnlyEnv.begun = 0


def small(root: Path) -> list[str]:
    where = [f"run.root={root}", f"demos.path={root}/demos", f"demos.cache_dir={root}/cache"]
    return [*SMALL, *where, "tracking.kind=csv", "training.frames=24", "training.eval_every_frames=12"]


def test_it_is_open_once_at_any_time_and_learns_as_another_does(
    tmp_path: Path, single: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demos(tmp_path / "demos")
    assert cli.main(["train", *small(tmp_path), "run.name=one", "training.eval_at_start=true"]) == 0
    assert OnlyEnv.open_now == 0
    assert OnlyEnv.begun == 2 + 3 * 2  # two rounds of one episode, three evaluations of two
    assert cli.main(["evaluate", f"run={tmp_path}/one", "episodes=3"]) == 0
    assert OnlyEnv.begun == 8 + 3
    assert cli.main(["ship", f"run={tmp_path}/one", f"out={tmp_path}/policy", "episodes=0"]) == 0
    assert OnlyEnv.begun == 8 + 3
    assert "Not scored" in (tmp_path / "policy" / "CARD.md").read_text()
    tasks.TASKS["counting"] = tasks.Task(tasks.COUNTING, "counting", "counting")
    assert cli.main(["train", *small(tmp_path), "run.name=other"]) == 0
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    learnt = [name for name in other if name.startswith(("/state_dict", "/VMILDataModule/replay"))]
    assert learnt
    assert all(torch.equal(one[name], other[name]) for name in learnt)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["collector.backend=process"], "collector.backend=process"),
        (["training.background_evaluation=always"], "training.background_evaluation=always"),
        (["compute.devices=2", "training.frames_per_epoch=24"], "compute.devices × compute.nodes = 2"),
    ],
)
def test_what_would_open_it_twice_is_refused(
    settings: list[str], named: str, tmp_path: Path, single: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_demos(tmp_path / "demos")
    assert cli.main(["train", *small(tmp_path), *settings]) == 2
    assert f"{named} cannot be: there is only one counting" in capsys.readouterr().err


def test_it_is_evaluated_in_no_process_of_its_own_and_by_one_run_at_a_time(single: None) -> None:
    config = load_config(["env=counting", "compute=cpu", "compute.threads=1"])
    assert not evaluates_in_background(config)
    cells = [Cell("counting", "vmil", "base", seed, (), config) for seed in range(4)]
    assert make_plan(Machine(16, 64 * GIB), cells).jobs == 1
    with pytest.raises(UserError, match="only one run"):
        make_plan(Machine(16, 64 * GIB), cells, jobs=2)
