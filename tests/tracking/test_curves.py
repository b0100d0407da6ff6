"""From run directories back to curves."""

from pathlib import Path

import pytest

from vmil.tracking.curves import read_curve
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


def test_bytes_of_a_power_cut_cost_their_row(run_dir: Path) -> None:
    with (run_dir / "metrics.csv").open("ab") as file:
        file.write(b'\xff\x00"\xfe\n20000,9.0,eval/return,800.0\n')
    assert read_curve(run_dir, "eval/return") == [(0, 26.5), (10_000, 730.0), (20_000, 800.0)]


def test_a_curve_is_one_metric_in_order(run_dir: Path) -> None:
    assert read_curve(run_dir, "eval/return") == [(0, 26.5), (10_000, 730.0)]
    with pytest.raises(KeyError, match="eval/return"):
        read_curve(run_dir, "eval/retrun")
