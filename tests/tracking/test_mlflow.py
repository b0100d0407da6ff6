"""MLflow beside the CSV file, on a SQLite store of its own."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from curves import read_curve
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from requests import ConnectionError as Unreachable
from requests import HTTPError, Response

from vmil.config.schema import TrackingConfig
from vmil.errors import UserError
from vmil.tracking import mlflow as tracking_mlflow
from vmil.tracking import stored as stored_module
from vmil.tracking.mlflow import MLflowTracker, ParentRun
from vmil.tracking.record import read_record, update_record
from vmil.tracking.stored import history, stored_runs
from vmil.tracking.tracker import make_tracker

PARAMS = {f"world_model.knob{index}": index for index in range(150)} | {"long": "x" * 7000}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run, then its continuation after a checkpoint at 2000 frames; making a SQLite store takes seconds."""
    root = tmp_path_factory.mktemp("runs")
    run_dir = root / "walker-vmil-s0"
    run_dir.mkdir()
    (run_dir / "config.yaml").write_text("algo: vmil\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(tracking_mlflow, "PATIENCE", 600.0)  # a busy machine may take a minute for a new store
        first = make_tracker(TrackingConfig(experiment="night"), run_dir)
        first.params(PARAMS)
        first.tags({"commit": "0123abc", "demos": "d1"})
        first.artifact(run_dir / "config.yaml")
        first.metrics({"model/loss": 3.0, "model/kl": 1.0}, frames=1000)
        first.metrics({"model/loss": 2.0}, frames=2000)
        state = first.state_dict()
        first.image("model/open_loop", np.full((8, 8, 3), 9, np.uint8), frames=2000)
        first.histogram("reward/histogram", np.arange(9.0), frames=2000)
        first.video("eval/episode", np.zeros((4, 16, 16, 3), np.uint8), frames=2000, fps=10)
        first.metrics({"model/loss": 99.0}, frames=3000)
        first.flush()  # whoever is killed waits for less than a new store takes on a busy machine
        first.finish("KILLED")

        second = make_tracker(TrackingConfig(experiment="night"), run_dir)
        second.params(PARAMS | {"long": "changed, which MLflow would refuse", "late": "1"})
        second.load_state_dict(state)
        second.metrics({"model/loss": 1.0}, frames=3000)
        second.finish("FINISHED")
    return root


def the_run(root: Path) -> Any:
    client = MlflowClient(f"sqlite:///{root.resolve()}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("night").experiment_id])
    return client, run


def test_a_resumed_run_is_one_run_with_its_first_parameters(root: Path) -> None:
    _, run = the_run(root)
    assert run.info.run_name == "walker-vmil-s0"
    assert run.info.status == "FINISHED"
    assert len(run.data.params) == len(PARAMS) + 1
    assert run.data.params["late"] == "1"  # what the first process could not send, or did not know
    assert run.data.params["world_model.knob149"] == "149"
    assert run.data.params["long"] == "x" * 6000
    assert run.data.tags["changed.long"] == "changed, which MLflow would refuse"
    assert [key for key in run.data.tags if key.startswith("changed.")] == ["changed.long"]
    [stored] = stored_runs(f"sqlite:///{root.resolve()}/mlflow.db")
    assert stored.params == run.data.params | {"long": "changed, which MLflow would refuse"}
    assert (run.data.tags["commit"], run.data.tags["demos"]) == ("0123abc", "d1")
    assert read_record(root / "walker-vmil-s0")["mlflow_run_id"] == run.info.run_id


def test_curves_count_frames_and_agree_with_the_csv(root: Path) -> None:
    run_dir = root / "walker-vmil-s0"
    expected = [(1000, 3.0), (2000, 2.0), (3000, 1.0)]
    _, run = the_run(root)
    assert history(f"sqlite:///{root.resolve()}/mlflow.db", run.info.run_id, "model/loss") == expected
    assert read_curve(run_dir, "model/loss") == expected


def test_pictures_films_and_files_are_artifacts_beside_the_store(root: Path) -> None:
    client, run = the_run(root)
    assert (root / "mlartifacts" / "night" / run.info.run_id).is_dir()
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"config.yaml", "images", "videos"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "videos")] == [
        "videos/eval_episode_000002000.mp4"
    ]
    images = " ".join(item.path for item in client.list_artifacts(run.info.run_id, "images"))
    assert "open_loop" in images
    assert "histogram" in images


def test_what_a_resumed_run_went_back_behind_is_in_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at 3000 frames, it went on from 1000, and is at 2000."""
    points = [(1, 1000, 5.0), (2, 2000, 6.0), (3, 3000, 7.0), (9, 2000, 8.0)]
    client = MagicMock(**{"get_metric_history.return_value": [Metric("x", v, t, step) for t, step, v in points]})
    monkeypatch.setattr(stored_module, "MlflowClient", lambda _: client)
    assert history("http://nowhere:1", "run", "x") == [(1000, 5.0), (2000, 8.0)]


def test_a_run_takes_its_experiment_out_of_the_waste_basket(root: Path) -> None:
    """Or MLflow would refuse every number, and its name could not be given anew either."""
    client, _ = the_run(root)
    uri = f"sqlite:///{root.resolve()}/mlflow.db"
    known = client.create_experiment("thrown away")
    client.delete_experiment(known)
    assert tracking_mlflow._experiment(client, uri, "thrown away", root) == known
    client.create_run(known)


class BrokenClient:
    """A server that is away."""

    def __init__(self, uri: str) -> None:
        raise MlflowException(f"API request to {uri} failed with connection refused")


class RefusingClient:
    """A server that knows us and says no."""

    def __init__(self, uri: str) -> None:
        error = MlflowException("permission denied")
        error.get_http_status_code = lambda: 403  # type: ignore[method-assign]
        raise error


def tracked(run_dir: Path, **client: Any) -> MLflowTracker:
    """A tracker that has opened its run with a client that takes everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking_mlflow, "MlflowClient", lambda _: MagicMock(**client))
        patch.setattr(tracking_mlflow, "Outbox", lambda *args, **kwargs: MagicMock())
        tracker = MLflowTracker(TrackingConfig(uri="http://nowhere:1", system_metrics=False), run_dir)
        tracker._open()
    return tracker


def test_a_copied_run_is_a_run_of_its_own_and_a_moved_one_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, made = tmp_path / "first", iter(["run0", "run1", "run2"])
    client = {"create_run": lambda *args, **kwargs: MagicMock(**{"info.run_id": next(made)})}
    tracked(first, **client)
    shutil.copytree(first, tmp_path / "copy")
    (tmp_path / "link").symlink_to(first)
    with caplog.at_level(logging.INFO, "vmil"):
        assert [tracked(tmp_path / name, **client)._run_id for name in ("first", "link")] == ["run0", "run0"]
        assert not caplog.messages
        assert tracked(tmp_path / "copy", **client)._run_id == "run1"
    assert caplog.messages == [
        f"'{tmp_path}/copy' is a copy of '{first}': in MLflow it is a run of its own from here on"
    ]
    first.rename(tmp_path / "moved")
    assert [tracked(tmp_path / name, **client)._run_id for name in ("copy", "moved")] == ["run1", "run0"]


@pytest.mark.parametrize("client", [BrokenClient, RefusingClient])
def test_a_broken_server_costs_one_warning_and_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, client: type
) -> None:
    monkeypatch.setattr(tracking_mlflow, "MlflowClient", client)
    with caplog.at_level(logging.WARNING, "vmil"):
        tracker = MLflowTracker(TrackingConfig(uri="http://nowhere:1"), tmp_path)
        for frames in range(1000, 5000, 1000):
            tracker.metrics({"model/loss": 1.0}, frames)
            tracker.flush()
        tracker.finish("FINISHED")
    assert len(read_curve(tmp_path, "model/loss")) == 4
    assert "MLflow at http://nowhere:1: MlflowException" in caplog.records[0].message
    assert len(caplog.records) <= 2  # the second says how much was lost
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "FINISHED"


def test_a_run_that_could_not_be_noted_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk: what opens the run is called again."""
    made: list[str] = []

    def create_run(*args: Any, **kwargs: Any) -> Any:
        made.append(f"run{len(made)}")
        return MagicMock(**{"info.run_id": made[-1]})

    noted = iter([False, False, True])

    def note(run_dir: Path, **fields: object) -> None:
        if "mlflow_run_id" in fields and not next(noted):
            raise OSError(errno.ENOSPC, "No space left on device")
        update_record(run_dir, **fields)

    monkeypatch.setattr(tracking_mlflow, "MlflowClient", lambda _: MagicMock(create_run=create_run))
    monkeypatch.setattr(tracking_mlflow, "update_record", note)
    monkeypatch.setattr(tracking_mlflow, "Outbox", lambda *args, **kwargs: MagicMock())
    tracker = MLflowTracker(TrackingConfig(uri="http://nowhere:1", system_metrics=False), tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            tracker._open()
    tracker._open()
    assert made == ["run0"]
    assert read_record(tmp_path)["mlflow_run_id"] == "run0"


def test_without_mlflow_the_other_kinds_work_and_mlflow_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "vmil.tracking.mlflow")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for name in [name for name in sys.modules if name.startswith("mlflow.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"needs mlflow.*tracking\.kind=csv"):
        make_tracker(TrackingConfig(kind="mlflow"), tmp_path)
    make_tracker(TrackingConfig(kind="csv"), tmp_path).metrics({"model/loss": 1.0}, 0)


def test_of_runs_that_start_at_once_one_makes_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's migrations of a new SQLite file fail when two processes run them together."""
    alone: list[bool] = []

    def client(uri: str) -> MlflowClient:
        with (tmp_path / ".mlflow.db.lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                alone.append(False)
            except BlockingIOError:
                alone.append(True)
        raise MlflowException("enough seen")

    monkeypatch.setattr(tracking_mlflow, "MlflowClient", client)
    (tmp_path / "run").mkdir()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    make_tracker(TrackingConfig(uri=uri), tmp_path / "run").finish("FINISHED")
    begun = len(alone)  # once or twice: it is tried again
    with pytest.raises(MlflowException, match="enough seen"):  # an experiment's parent, beside a run that begins
        ParentRun(uri, "figure3", tmp_path / "figure3")
    assert len(alone) > begun > 0
    assert all(alone)


@pytest.mark.parametrize(("status", "again"), [(429, True), (408, True), (503, True), (404, False), (403, False)])
def test_a_server_that_asks_for_patience_is_asked_again(status: int, again: bool) -> None:
    error = MlflowException("no")
    error.get_http_status_code = lambda: status  # type: ignore[method-assign]
    assert tracking_mlflow._is_hopeless(error) is not again
    upload = HTTPError(response=Response())  # which MLflow lets through as it is
    upload.response.status_code = status
    assert tracking_mlflow._is_hopeless(upload) is not again


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (PermissionError(errno.EACCES, "no"), False),  # of a store that is a directory of the server, or another's
        (FileNotFoundError(errno.ENOENT, "no"), False),
        (OSError(errno.EROFS, "no"), False),
        (OSError(errno.ENOSPC, "no"), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "no"), True),
        (TimeoutError("no"), True),
        (Unreachable(), True),  # requests' own
        (
            pytest.importorskip("sqlalchemy.exc").OperationalError(
                "", {}, sqlite3.OperationalError("database is locked")
            ),
            True,
        ),
        (KeyError("no"), False),
    ],
)
def test_what_cannot_help_does_not_hold_up_what_comes_after_it(error: Exception, again: bool) -> None:
    assert tracking_mlflow._is_hopeless(error) is not again


def test_a_store_of_artifacts_that_may_not_be_written_costs_no_number(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "file").touch()
    MlflowClient(uri).create_experiment("night", artifact_location=(tmp_path / "file" / "store").as_uri())
    run_dir = tmp_path / "runs" / "one"
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text("algo: vmil\n")
    tracker = make_tracker(TrackingConfig(uri=uri, experiment="night"), run_dir)
    tracker.artifact(run_dir / "config.yaml")
    tracker.metrics({"model/loss": 1.0}, frames=1000)
    tracker.finish("FINISHED")
    [stored] = stored_runs(uri)
    assert (stored.status, stored.last["model/loss"]) == ("FINISHED", 1.0)
