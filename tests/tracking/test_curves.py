"""From run directories back to readings."""

from pathlib import Path

import pytest

from vmil.tracking.curves import Point, read_points
from vmil.tracking.tracker import CsvTracker


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run = tmp_path / "walker-vmil-s3"
    run.mkdir()
    tracker = CsvTracker(run)
    tracker.load_state_dict({"seconds": 3600.0})
    tracker.metrics({"eval/return": 26.5, "model/loss": 9.0}, frames=0)
    tracker.metrics({"eval/return": 730.0, "collect/return": 500.0}, frames=10_000)
    return run


def test_readings_come_in_the_order_in_which_they_were_written(run_dir: Path) -> None:
    points = [(point.frames, point.name, point.value) for point in read_points(run_dir)]
    assert points == [
        (0, "eval/return", 26.5),
        (0, "model/loss", 9.0),
        (10_000, "eval/return", 730.0),
        (10_000, "collect/return", 500.0),
    ]


def test_bytes_of_a_power_cut_cost_their_row(run_dir: Path) -> None:
    before = list(read_points(run_dir))
    with (run_dir / "metrics.csv").open("ab") as file:
        file.write(b'\xff\x00"\xfe\n20000,9.0,eval/return,800.0\n')
    assert list(read_points(run_dir)) == [*before, Point(20_000, 9.0, "eval/return", 800.0)]
