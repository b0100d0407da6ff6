"""A whole experiment with children that are small scripts: skipped, resumed, failed, stopped; Ray by a stand-in."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from vmil import cli
from vmil.config.load import load_config
from vmil.config.schema import TrackingConfig
from vmil.config.schema_cli import ExperimentOptions
from vmil.errors import INTERRUPTED, LOOK_AGAIN, StoppedError, UserError
from vmil.experiments import ray_pool
from vmil.experiments import run as experiment
from vmil.experiments.cell import Place
from vmil.experiments.grid import Cell, expand, make_request
from vmil.experiments.local import Elsewhere, LocalPool
from vmil.experiments.resources import (
    GIB,
    Gpu,
    Machine,
    Plan,
    chosen_gpus,
    make_plan,
    memory_bytes,
    this_machine,
)
from vmil.system.machine import CORES, allowed_cores
from vmil.tracking.record import read_record

# A stand-in for `vmil train`: it writes what a run leaves behind and ends as its name says.
CHILD = """
import json, os, signal, sys, threading
from pathlib import Path
name, root = sys.argv[1], Path(sys.argv[2])
run = root / name
(run / "checkpoints").mkdir(parents=True, exist_ok=True)
begun = (run / "checkpoints" / "last.ckpt").exists()
(run / "config.yaml").write_text(sys.argv[3])
(run / "checkpoints" / "last.ckpt").touch()
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


# ---- sharing the machine --------------------------------------------------------------------------------------


def cells(count: int, *settings: str) -> list[Cell]:
    config = load_config(["env=walker", "algo=vmil", *settings])
    return [Cell("walker", "vmil", "base", seed, (), config) for seed in range(count)]


@pytest.mark.parametrize(
    ("machine", "count", "jobs", "expected"),
    [
        (Machine(2, 64 * GIB), 9, 0, Plan(1, 2, share=2)),
        (Machine(16, 64 * GIB), 9, 0, Plan(8, 2, share=2)),  # two cores each
        (Machine(16, 64 * GIB), 3, 0, Plan(3, 5, share=5)),  # fewer runs, more threads
        (Machine(16, 64 * GIB), 1, 8, Plan(1, 16, share=16)),  # what is left of many
        (Machine(16, 5.5 * GIB), 9, 0, Plan(2, 8, share=8)),  # the memory of two
        (Machine(1, 1 * GIB), 9, 0, Plan(1, 1, share=1)),  # one at least
        (Machine(2, 64 * GIB), 9, 4, Plan(4, 1, share=1)),  # as it was told
    ],
)
def test_cores_and_memory_say_how_many_at_once(machine: Machine, count: int, jobs: int, expected: Plan) -> None:
    assert make_plan(machine, cells(count, "compute=cpu"), jobs) == expected


def planned(machine: Machine, *settings: str) -> Plan:
    return make_plan(machine, cells(40, "compute=gpu", *settings))


def test_gpus_are_shared_by_their_memory() -> None:
    machine = Machine(32, 512 * GIB, (Gpu("0", 140 * GIB), Gpu("3", 17 * GIB)))
    assert planned(machine, "compute.replay=host") == Plan(6, 5, ("0", "3"), share=5, rooms=(4, 2))
    replays = cells(40, "compute=gpu")  # lie there too
    assert make_plan(machine, replays) == Plan(5, 6, ("0", "3"), share=6, rooms=(4, 1))
    large = ("training.frames=3000000", "training.replay_frames=3000000")  # 17 GiB of pictures
    expected = Plan(6, 5, ("0", "3"), share=5, rooms=(4, 2))
    assert planned(machine, *large) == expected  # on the small one they stay with the host
    filled = Machine(64, 512 * GIB, (Gpu("0", 80 * GIB), Gpu("1", 1 * GIB)))
    assert make_plan(filled, replays).gpus == ("0",)  # what others fill is left to them
    assert make_plan(machine, cells(40, "compute=cpu")).gpus == ()
    assert make_plan(filled, cells(40, "compute.device=auto")).gpus == ("0",)
    assert make_plan(Machine(64, 512 * GIB), replays).jobs == 4  # its tool does not list it: one GPU at least


def test_runs_with_workers_or_several_devices_are_fewer() -> None:
    machine = Machine(16, 64 * GIB)
    workers = ("collector.backend=process", "collector.workers=4", "training.frames_per_epoch=4000")
    played = cells(9, "compute=cpu", *workers)
    assert make_plan(machine, played) == Plan(4, 4, workers=4, share=4)
    overlapping = cells(9, "compute=cpu", "collector.overlap=true", *workers)
    assert make_plan(machine, overlapping) == Plan(2, 4, beside=4, share=8)
    assert make_plan(machine, overlapping).cores == 8
    assert make_plan(machine, cells(9, "compute=cpu", "compute.threads=8")) == Plan(2, 8, share=8)
    shared = cells(9, "compute=cpu", "compute.devices=2", "training.frames_per_epoch=2000")
    assert make_plan(machine, shared) == Plan(4, 2, devices=2, share=4)
    gpus = Machine(64, 512 * GIB, tuple(Gpu(str(index), 80 * GIB) for index in range(5)))
    pairs = cells(9, "compute=gpu", "compute.devices=2", "training.frames_per_epoch=2000")
    assert make_plan(gpus, pairs) == Plan(2, 16, ("0,1", "2,3"), devices=2, share=32, rooms=(1, 1))
    taken = replace(gpus, gpus=(Gpu("0", 1 * GIB), *gpus.gpus[1:3]))
    assert make_plan(taken, pairs).gpus == ("1,2",)  # what others fill is no part of a pair
    [alone] = cells(1, "compute=cpu")
    assert memory_bytes(played[0].config) == memory_bytes(alone.config) + 4 * GIB
    assert memory_bytes(shared[0].config) == memory_bytes(alone.config) + 2 * GIB
    [beside] = cells(1, "compute=cpu", "training.background_evaluation=always")
    assert memory_bytes(beside.config) == memory_bytes(alone.config) + 1 * GIB


def test_what_an_experiment_cannot_start_is_said_at_once() -> None:
    nodes = cells(1, "compute.nodes=2", "training.frames_per_epoch=2000")
    with pytest.raises(UserError, match="a run on several machines is started by `srun`"):
        make_plan(Machine(16, 64 * GIB), nodes)
    with pytest.raises(UserError, match=r"compute\.devices=8: this machine does not have that many free GPUs"):
        experiment.make_pool(ExperimentOptions(), Plan(1, 1, devices=8), on_gpu=True)


def test_a_run_needs_its_replay_and_its_demonstrations() -> None:
    [cell] = cells(1, "training.frames=100000", "demos.count=10")
    assert memory_bytes(cell.config) == 2 * GIB + (50_000 + 5_000) * (64 * 64 * 3 + 22)


def test_what_a_container_an_experiment_and_the_driver_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmil.system.machine._CGROUP", tmp_path)
    everything = allowed_cores()
    assert everything >= 1
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert allowed_cores() == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert allowed_cores() == everything
    monkeypatch.setenv(CORES, "1")
    assert allowed_cores() == 1
    listed = "0, 1000\n1, 2000\n"
    assert [gpu.name for gpu in chosen_gpus("0, [N/A]\n", None)] == ["0"]
    assert chosen_gpus(listed, None) == (Gpu("0", 1000 * 2**20), Gpu("1", 2000 * 2**20))
    assert chosen_gpus(listed, "1") == (Gpu("1", 2000 * 2**20),)
    assert chosen_gpus(listed, "") == chosen_gpus(listed, "-1") == ()


def test_children_take_the_gpus_in_turn_and_their_share_of_threads(tmp_path: Path) -> None:
    pool = LocalPool(Plan(2, 3, ("0", "3")))
    names = ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", CORES]
    tell = [sys.executable, "-c", f"import os; print(*(os.environ[name] for name in {names}))"]
    children = [pool.start(tell, tmp_path / "logs" / str(index)) for index in range(2)]
    assert [child._process.wait() for child in children] == [0, 0]
    assert [(tmp_path / "logs" / str(index)).read_text() for index in range(2)] == ["0 3 3\n", "3 3 3\n"]


def test_a_gpu_gets_as_many_as_it_has_room_for(tmp_path: Path) -> None:
    pool = LocalPool(Plan(5, 1, ("0", "3"), rooms=(4, 1)))
    wait = [sys.executable, "-c", "import signal; signal.pause()"]
    children = [pool.start(wait, tmp_path / "logs" / str(index)) for index in range(5)]
    try:
        assert sorted(child.seat for child in children) == [0, 0, 0, 0, 1]
    finally:
        for child in children:
            child._process.kill()
            child._process.wait()


def test_an_experiment_sees_the_container_s_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in (("max", str(GIB)), ("current", "0"), ("stat", "inactive_file 0\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr("vmil.system.machine._CGROUP", tmp_path)
    assert this_machine().memory <= GIB


# ---- Ray ------------------------------------------------------------------------------------------------------


class FakeRay:
    """As much of Ray as is used; runs a task when it is asked for."""

    def __init__(self, **resources: float) -> None:
        self.resources = resources
        self.asked: list[dict[str, Any]] = []
        self.lost = self.initialised = False

    def is_initialized(self) -> bool:
        return self.initialised

    def init(self, **settings: Any) -> None:
        self.joined, self.initialised = settings, True

    def shutdown(self) -> None:
        self.initialised = False

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **needs: Any) -> Any:
        self.asked.append(needs)

        class Remote:
            def __init__(self, function: Any) -> None:
                self.remote = lambda *args: lambda: function(*args)

        return Remote

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return references, []

    def get(self, reference: Any) -> Any:
        if self.lost:
            raise RuntimeError("the node died")
        return reference()


def test_ray_is_given_each_run_with_its_share(tmp_path: Path) -> None:
    ray = FakeRay(CPU=16.0, GPU=2.0)
    pool = ray_pool.RayPool(Plan(8, 2, ("0", "1")), on_gpu=True, ray=ray)
    assert (pool.threads, pool.slots) == (2, 8)
    task = pool.start([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], tmp_path / "logs" / "a.log")
    assert task.poll() == 3
    assert (tmp_path / "logs" / "a.log").read_text() == "hello\n"
    assert ray.asked == [{"num_cpus": 2, "num_gpus": 0.25, "max_retries": 0}]
    ray.lost = True
    assert task.poll() == 1
    pool.close()
    ray = FakeRay(CPU=16.0, GPU=4.0)
    pool = ray_pool.RayPool(Plan(1, 2, ("0,1",), devices=2, workers=4), on_gpu=True, ray=ray)
    assert pool.slots == 2
    pool.start([sys.executable, "-c", ""], tmp_path / "logs" / "b.log")
    assert ray.asked == [{"num_cpus": 8, "num_gpus": 2.0, "max_retries": 0}]


def test_a_task_stands_where_the_experiment_does_and_knows_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's worker stands where `ray start` was called, with the environment of that moment."""
    pool = ray_pool.RayPool(Plan(1, 1), on_gpu=False, ray=FakeRay(CPU=1.0))
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:pw@lab:5000")
    script = "import os; print(os.getcwd(), os.environ['MLFLOW_TRACKING_URI'])"
    task = pool.start([sys.executable, "-c", script], tmp_path / "a.log")
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert task.poll() == 0
    assert (tmp_path / "a.log").read_text() == f"{tmp_path / 'here'} http://ada:pw@lab:5000\n"


def test_a_task_that_is_called_off_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "LOOK_EVERY", 0.02)
    child = (
        "import os, signal, threading\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), os._exit(143)))\n"
        "threading.Event().wait()\n"
    )
    for wish, code in (("soon", {143, -15}), ("now", {-9})):
        (tmp_path / "wish").write_text(wish)
        found = ray_pool.run_to_end([sys.executable, "-c", child], str(tmp_path / "log"), str(tmp_path / "wish"), {})
        assert found in code


@pytest.mark.parametrize("ended", [SystemExit(15), ConnectionError("Failed to connect\nto it")])
def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch, ended: BaseException) -> None:
    def init(**_: Any) -> None:
        raise ended

    ray = FakeRay(CPU=1.0)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(
        UserError, match=r"runner=ray: Ray cannot reach the cluster of RAY_ADDRESS=10\.0\.0\.1:6379.*; "
    ):
        ray_pool.RayPool(Plan(1, 1), on_gpu=False, ray=ray)


def test_a_cluster_of_our_own_listens_here_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay(CPU=1.0)
    ray_pool.RayPool(Plan(1, 1), on_gpu=False, ray=ray)
    assert ray.joined["_node_ip_address"] == ray.joined["dashboard_host"] == "127.0.0.1"


@pytest.mark.parametrize("before", [False, True])
def test_only_a_cluster_that_the_pool_joined_is_left(before: bool) -> None:
    ray = FakeRay(CPU=1.0)
    ray.initialised = before
    ray_pool.RayPool(Plan(1, 1), on_gpu=False, ray=ray).close()
    assert ray.initialised is before


def test_without_ray_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"runner=ray needs Ray: `pip install -e .\[ray\]`, or take runner=local"):
        experiment.make_pool(ExperimentOptions(runner="ray"), Plan(1, 1), on_gpu=False)
