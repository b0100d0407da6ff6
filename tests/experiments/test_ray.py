"""Runs on a Ray cluster, which a stand-in plays: shares, places, calling off, clusters that do not answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vmil.config.schema_cli import ExperimentOptions
from vmil.errors import UserError
from vmil.experiments import ray_pool
from vmil.experiments import run as experiment
from vmil.experiments.resources import Plan


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
