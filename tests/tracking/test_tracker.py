"""The CSV tracker: what it writes, what survives a kill, and that it never costs a run."""

import errno
import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curves import read_curve
from PIL import Image

from vmil.config.schema import TrackingConfig
from vmil.tracking import tracker as tracker_module
from vmil.tracking.curves import read_points
from vmil.tracking.record import read_record, update_record
from vmil.tracking.tracker import CSV_HEADER, CsvTracker, Tracker, make_tracker


def test_rows_are_long_and_complete(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path)
    tracker.metrics({"model/loss": 1.25, "model/kl": 3.0}, frames=1000)
    tracker.metrics({"model/loss": 0.5}, frames=2000)
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == "frames,seconds,name,value"
    assert [row.split(",")[0] + row.split(",", 2)[2] for row in rows] == [
        "1000model/loss,1.25",
        "1000model/kl,3",
        "2000model/loss,0.5",
    ]


@pytest.mark.parametrize("kind", ["csv", "none"])
def test_an_unknown_metric_is_an_error_of_the_program(tmp_path: Path, kind: str) -> None:
    tracker = make_tracker(TrackingConfig(kind=kind), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="model/loss"):
        tracker.metrics({"model/lost": 1.0}, frames=0)


def test_resuming_cuts_off_what_came_after_the_checkpoint_and_goes_on_with_its_time(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path)
    tracker.metrics({"model/loss": 1.0}, frames=1000)
    state = tracker.state_dict() | {"seconds": 500.0}
    tracker.metrics({"model/loss": 2.0}, frames=1000)  # the same frames: a checkpoint in the middle of a round
    tracker.metrics({"model/loss": 3.0}, frames=2000)

    resumed = CsvTracker(tmp_path)
    resumed.load_state_dict(state)
    assert 500.0 <= resumed.seconds() < 600.0
    resumed.metrics({"model/loss": 4.0}, frames=2000)
    assert read_curve(tmp_path, "model/loss") == [(1000, 1.0), (2000, 4.0)]


def test_a_row_that_a_kill_cut_in_two_does_not_spoil_the_next(tmp_path: Path) -> None:
    CsvTracker(tmp_path).metrics({"model/loss": 1.0}, frames=1000)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("2000,3.0,model/lo")
    assert read_curve(tmp_path, "model/loss") == [(1000, 1.0)]
    CsvTracker(tmp_path).metrics({"model/loss": 2.0}, frames=2000)
    assert read_curve(tmp_path, "model/loss") == [(1000, 1.0), (2000, 2.0)]


def test_a_file_that_had_been_shortened_is_cut_between_rows(tmp_path: Path) -> None:
    """A power cut lost rows that the checkpoint knows of, and a first resume has added others."""
    tracker = CsvTracker(tmp_path)
    tracker.metrics({"model/loss": 1.0}, frames=1000)
    tracker.metrics({"model/loss": 222.0}, frames=2000)
    state = tracker.state_dict()
    os.truncate(tmp_path / "metrics.csv", int(state["csv_bytes"]) - 5)
    resumed = CsvTracker(tmp_path)
    resumed.load_state_dict(state)
    for frames in (3000, 4000):
        resumed.metrics({"model/loss": 3.0}, frames)
    again = CsvTracker(tmp_path)
    again.load_state_dict(state)
    again.metrics({"model/loss": 5.0}, frames=5000)
    assert read_curve(tmp_path, "model/loss") == [(1000, 1.0), (3000, 3.0), (5000, 5.0)]


def test_a_checkpoint_in_a_new_directory_keeps_the_header(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path)
    tracker.load_state_dict({"seconds": 3.0, "csv_bytes": 10_000})
    tracker.load_state_dict({"seconds": 3.0, "csv_bytes": 0})
    assert (tmp_path / "metrics.csv").read_text() == CSV_HEADER


def test_pictures_films_and_histograms_become_files_that_sort_in_time(tmp_path: Path) -> None:
    tracker = CsvTracker(tmp_path)
    tracker.image("model/open_loop", np.full((8, 12, 3), 7, np.uint8), frames=20_000)
    tracker.histogram("reward/histogram", np.arange(10.0), frames=20_000)
    tracker.video("eval/episode", np.zeros((3, 16, 16, 3), np.uint8), frames=20_000, fps=10)
    picture = np.asarray(Image.open(tmp_path / "pictures" / "model_open_loop_000020000.png"))
    assert picture.shape == (8, 12, 3)
    assert (picture == 7).all()
    assert (tmp_path / "pictures" / "reward_histogram_000020000.png").exists()
    assert (tmp_path / "videos" / "eval_episode_000020000.mp4").stat().st_size > 100


def test_a_failing_disk_warns_once_and_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = CsvTracker(tmp_path)
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "metrics.csv").mkdir()  # nothing can be appended to a directory
    (tmp_path / "pictures").touch()
    with caplog.at_level(logging.WARNING, "vmil"):
        for frames in range(3):
            tracker.metrics({"model/loss": 1.0}, frames)
            tracker.image("x", np.zeros((2, 2, 3), np.uint8), frames)
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "tracking cannot write metrics.csv",
        "tracking cannot write a picture",
    ]


@pytest.mark.parametrize("room", [0, 1, 9, 30])
def test_a_row_that_a_full_disk_cut_in_two_is_no_number(tmp_path: Path, room: int) -> None:
    class Full(io.FileIO):
        """Takes so many bytes, and says how many."""

        def write(self, data: Any) -> int:
            return super().write(data[:room])

    tracker = CsvTracker(tmp_path)
    tracker.metrics({"model/loss": 1.0}, 1)
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, buffering: Full(path, mode))
        tracker.metrics({"model/loss": 931.25, "model/kl": 2.0}, 2)
    assert (tmp_path / "metrics.csv").read_bytes() == before
    tracker.metrics({"model/loss": 3.0}, 3)
    assert [(point.frames, point.value) for point in read_points(tmp_path)] == [
        (1, 1.0),
        (2, 931.25),
        (2, 2.0),
        (3, 3.0),
    ]


@pytest.mark.parametrize("end", [CsvTracker.state_dict, lambda tracker: tracker.finish("KILLED")])
def test_what_a_full_disk_refuses_is_written_at_the_next_checkpoint_or_the_end_the_oldest_rows_excepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any
) -> None:
    def full(path: Path, rows: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tracker_module, "KEPT_ROWS", 3)
    tracker = CsvTracker(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tracker_module, "_append", full)
        for frames in range(5):
            tracker.metrics({"model/loss": 1.0}, frames)
    end(tracker)
    assert [frames for frames, _ in read_curve(tmp_path, "model/loss")] == [2, 3, 4]
    before = tracker.state_dict()
    tracker.load_state_dict(before)  # nor are they written twice
    tracker.flush()
    assert len(read_curve(tmp_path, "model/loss")) == 3


def test_the_first_end_counts(tmp_path: Path) -> None:
    update_record(tmp_path, commit="abc")
    tracker = CsvTracker(tmp_path)
    tracker.tags({"demos": "d1"})
    tracker.finish("KILLED")
    tracker.finish("FINISHED")
    record = read_record(tmp_path)
    assert (record["status"], record["commit"], record["tags"]) == ("KILLED", "abc", {"demos": "d1"})


def test_kind_none_leaves_no_trace(tmp_path: Path) -> None:
    tracker = make_tracker(TrackingConfig(kind="none"), tmp_path)
    assert type(tracker) is Tracker
    tracker.params({"a": 1})
    tracker.tags({"a": "b"})
    tracker.metrics({"model/loss": 1.0}, 0)
    tracker.image("x", np.zeros((2, 2, 3), np.uint8), 0)
    tracker.histogram("x", np.zeros(3), 0)
    tracker.video("x", np.zeros((2, 4, 4, 3), np.uint8), 0, 10)
    tracker.artifact(tmp_path / "none")
    tracker.load_state_dict(tracker.state_dict() | {"seconds": 60.0})
    tracker.flush()
    tracker.finish("FINISHED")
    assert tracker.seconds() >= 60.0
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_raises(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wandb"):
        make_tracker(TrackingConfig(kind="wandb"), tmp_path)  # type: ignore[arg-type]
