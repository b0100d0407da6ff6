"""How many runs a machine carries at once, and what each gets of it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vmil.config.load import load_config
from vmil.config.schema_cli import ExperimentOptions
from vmil.errors import UserError
from vmil.experiments import run as experiment
from vmil.experiments.grid import Cell
from vmil.experiments.local import LocalPool
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
