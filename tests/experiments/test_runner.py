"""A whole experiment with children that are small scripts: skipped, resumed, failed, stopped, tracked."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from vmil import cli
from vmil.config.schema import TrackingConfig
from vmil.config.schema_cli import ExperimentOptions
from vmil.errors import INTERRUPTED, LOOK_AGAIN, StoppedError, UserError
from vmil.experiments import run as experiment
from vmil.experiments.cell import Place
from vmil.experiments.grid import Cell, expand, make_request
from vmil.experiments.local import Elsewhere
from vmil.experiments.resources import (
    GIB,
    Machine,
)
from vmil.tracking.record import read_record

# A stand-in for `vmil train`: it writes what a run leaves behind and ends as its name says.
CHILD = """
import json, os, shutil, signal, sys, threading
from pathlib import Path
name, root = sys.argv[1], Path(sys.argv[2])
run = root / name
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
begun = (run / "checkpoints" / "last.ckpt").exists()
(run / "config.yaml").write_text(sys.argv[3])
(run / "checkpoints" / "last.ckpt").touch()
(run / "metrics.csv").write_text("frames,seconds,name,value\\n1000000,9,eval/return,1\\n")
def end(status, code, word):
    (run / "run.json").write_text(json.dumps({"status": status}))
    print(word, flush=True)
    os._exit(code)
if "noise-none" in name:
    end("FAILED", 2, "vmil: no demonstrations are shipped for env sawyer")
if "noise-annealed" in name and not begun:
    end("FAILED", 1, "RuntimeError: node lost")
if "penalty-none" in name:
    signal.signal(signal.SIGTERM, lambda *_: end("KILLED", 143, "stopped, with a checkpoint"))
    os.kill(int(sys.argv[4]), signal.SIGTERM)  # what a person does to the experiment
    threading.Event().wait()
if "no-next-state" in name:
    shutil.rmtree(run)  # as a person may, while it trains
    os._exit(0)
end("FINISHED", 0, "done " + ("again" if begun else "at once"))
"""


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replaces `vmil train` and `vmil resume` by CHILD; remembers what they were asked."""
    from vmil.config.load import to_yaml
    from vmil.experiments.cell import command

    script = tmp_path / "child.py"
    script.write_text(CHILD)
    asked: list[list[str]] = []

    def stand_in(cell: Cell, place: Place, threads: int) -> list[str]:
        real = command(cell, place, threads)
        asked.append([real[3], cell.variant])
        return [sys.executable, str(script), cell.name, str(place.root), to_yaml(cell.config), str(os.getpid())]

    monkeypatch.setattr(experiment, "command", stand_in)
    monkeypatch.setattr(experiment, "POLL", 0.01)
    return asked


def options(root: Path, **changes: Any) -> ExperimentOptions:
    return ExperimentOptions(name="ablations", algo="vmil", root=str(root), jobs=2, **changes)


def carry_out(chosen: ExperimentOptions, *variants: str) -> bool:
    """Runs these variants of the grid."""
    cells = expand(chosen.name, make_request(chosen, ["tracking=csv"]))
    return experiment.run_experiment(chosen, [cell for cell in cells if cell.variant in variants])


def test_failures_stop_nobody_and_a_second_call_does_only_what_is_left(
    children: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    assert carry_out(options(root), "base", "noise-none", "noise-annealed", "bootstrap-value") is False
    assert sorted(children) == [
        *(["resume", "noise-annealed"], ["train", "base"], ["train", "bootstrap-value"], ["train", "noise-annealed"]),
        ["train", "noise-none"],
    ]
    printed = capsys.readouterr().out
    assert "3 done, 1 failed" in printed
    assert "walker-vmil-noise-none-s0 failed: no demonstrations are shipped for env sawyer" in printed
    assert (root / "ablations" / "walker-vmil-noise-annealed-s0.log").read_text().splitlines() == [
        *("RuntimeError: node lost", "done again"),
    ]
    children.clear()
    assert carry_out(options(root), "base", "noise-none", "noise-annealed", "bootstrap-value") is False
    assert children == [["resume", "noise-none"]]


def test_a_run_whose_directory_is_gone_is_not_done(
    children: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(options(tmp_path / "runs"), "no-next-state") is False
    assert children == [["train", "no-next-state"]] * 2
    said = capsys.readouterr().out
    assert f"it ended well, but '{tmp_path}/runs/walker-vmil-no-next-state-s0' does not hold the whole run" in said


def test_what_is_done_leaves_the_machine_to_the_rest(
    children: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiment, "this_machine", lambda: Machine(16, 64 * GIB))
    assert carry_out(options(tmp_path), "base", "bootstrap-value")
    (tmp_path / "walker-vmil-s0").rename(tmp_path / "elsewhere")
    capsys.readouterr()
    assert carry_out(options(tmp_path), "base", "bootstrap-value")
    said = capsys.readouterr().out
    assert f"2 runs in '{tmp_path}', 1 at once with 16 threads" in said


def test_a_run_that_another_process_makes_is_waited_for(
    children: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those that outlive an experiment which was killed: starting them again would fail."""
    run_dir = tmp_path / "walker-vmil-s0"
    run_dir.mkdir()
    other = (run_dir / ".lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    looks: list[int] = []
    real = time.sleep

    def sleep(seconds: float) -> None:
        looks.append(len(children))
        if len(looks) == 3:
            other.close()
        real(seconds)

    monkeypatch.setattr(experiment.time, "sleep", sleep)
    assert carry_out(options(tmp_path), "base")
    assert looks[:3] == [0, 0, 0]
    assert children == [["train", "base"]]
    assert "walker-vmil-s0: running, another process is making it" in capsys.readouterr().out


def test_a_run_of_another_process_is_left_alone_when_the_experiment_stops(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        found = Elsewhere(tmp_path)
        assert found.poll() is None
        found.stop()
        assert found.poll() == INTERRUPTED
    assert Elsewhere(tmp_path).poll() == LOOK_AGAIN


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_terminal_asks_to_stop_as_a_scheduler_does(how: signal.Signals) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with experiment.listening() as urgency:
            assert urgency() == "no"
            signal.raise_signal(how)
            assert urgency() == "soon"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_stops_the_children_with_their_checkpoints_and_says_how_to_go_on(
    children: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match=r"stopped, .*[12] stopped.*make experiment NAME=ablations"):
        carry_out(options(tmp_path / "runs"), "penalty-none", "base", "bootstrap-value")
    assert signal.getsignal(signal.SIGTERM) is before
    assert read_record(tmp_path / "runs" / "walker-vmil-penalty-none-s0")["status"] == "KILLED"
    assert "stopped, with a checkpoint" in capsys.readouterr().out


def test_the_command_line_reaches_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []
    monkeypatch.setattr(experiment, "run_experiment", lambda *args: calls.append(args) or len(calls) == 1)
    words = ["experiment", "name=figure4", "seeds=0 1 2", "budget=20000", "jobs=3", "compute=cpu", "demos.path=x"]
    assert (cli.main(words), cli.main(words)) == (0, 1)  # every run done; some failed
    chosen, cells = calls[0]
    assert chosen == ExperimentOptions(name="figure4", seeds="0 1 2", budget=20_000, jobs=3)
    assert {cell.seed for cell in cells} == {0, 1, 2}
    assert all({"compute=cpu", "demos.path=x", "training.frames=20000"} <= set(cell.settings) for cell in cells)
    with pytest.raises(UserError, match="seeds=0 one: 'one' is not a whole number"):
        make_request(ExperimentOptions(seeds="0 one"), [])
    assert cli.main(["experiment", "runner=slurm"]) == 2
    assert capsys.readouterr().err == "vmil: runner=slurm is not one of local, ray\n"


# ---- MLflow ---------------------------------------------------------------------------------------------------


def test_the_children_are_shown_under_one_parent_which_is_taken_up_again(tmp_path: Path) -> None:
    from vmil.tracking.stored import stored_runs
    from vmil.tracking.tracker import make_tracker

    tracking = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    ids = []
    for _ in range(2):
        with experiment.tracked(tracking, "figure3", tmp_path) as account:
            ids.append(account.place.parent)
            account.close([])
    assert ids[0] == ids[1]
    child = make_tracker(TrackingConfig(uri=tracking.uri, experiment="figure3", parent=ids[0]), tmp_path / "child")
    child.finish("FINISHED")
    runs = {run.name: run for run in stored_runs(str(tracking.uri))}
    assert runs["child"].tags["mlflow.parentRunId"] == ids[0]
    assert (runs["figure3"].run_id, runs["figure3"].status) == (ids[0], "FINISHED")
    make_tracker(TrackingConfig(uri=tracking.uri, parent="another"), tmp_path / "child").finish("FINISHED")
    assert {run.name: run.tags.get("mlflow.parentRunId") for run in stored_runs(str(tracking.uri))} == {
        "figure3": None, "child": "another",  # taken up by another experiment
    }  # fmt: skip


def test_what_opens_the_server_reaches_neither_command_line_nor_file_nor_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command line is seen by every user of a machine, and run directories are passed on."""
    from vmil.tracking import mlflow as tracking_mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:pw@lab:5000")
    monkeypatch.setattr(tracking_mlflow, "MlflowClient", MagicMock())
    with experiment.tracked(TrackingConfig(), "figure3", tmp_path) as account:
        assert account.place.uri is None
        assert account.place.parent is not None
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with experiment.tracked(TrackingConfig(), "figure4", tmp_path) as account:
        assert account.place.uri is None  # the root's own, which may be moved with what is in it
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:pw@lab:5000")
    assert json.loads((tmp_path / "figure3" / "run.json").read_text())["mlflow_uri"] == "http://lab:5000"
    refused = OSError("no way to http://ada:pw@lab:5000")
    monkeypatch.setattr(tracking_mlflow, "MlflowClient", MagicMock(side_effect=refused))
    with experiment.tracked(TrackingConfig(), "figure3", tmp_path):
        pass
    said = capsys.readouterr().err
    assert "MLflow at http://lab:5000 cannot be used (no way to http://lab:5000): no parent run" in said


def test_without_a_server_the_runs_are_made_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vmil.tracking.mlflow", None)
    with experiment.tracked(TrackingConfig(uri="sqlite:///x.db"), "figure3", tmp_path) as account:
        assert account.place == Place(tmp_path, "figure3", "sqlite:///x.db")
    assert "no parent run" in capsys.readouterr().err
