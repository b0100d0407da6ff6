"""From run directories back to curves."""

from pathlib import Path

import pytest
from PIL import Image

from vmil.tracking.curves import plot_curve, read_curve, read_results_csv, write_results_csv
from vmil.tracking.record import update_record
from vmil.tracking.tracker import CsvTracker


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    run = tmp_path / "walker-vmil-s3"
    run.mkdir()
    (run / "config.yaml").write_text("algo: vmil\nseed: 3\nenv:\n  name: walker\n")
    update_record(run, tags={"commit": "0123abc"})
    tracker = CsvTracker(run)
    tracker.load_state_dict({"seconds": 3600.0})
    tracker.metrics({"eval/return": 26.5, "model/loss": 9.0}, frames=0)
    tracker.metrics({"eval/return": 730.0, "collect/return": 500.0}, frames=10_000)
    return run


def test_a_curve_is_one_metric_in_order(run_dir: Path) -> None:
    assert read_curve(run_dir, "eval/return") == [(0, 26.5), (10_000, 730.0)]
    with pytest.raises(KeyError, match="eval/return"):
        read_curve(run_dir, "eval/retrun")


def test_results_say_whose_they_are_and_can_be_read_back(run_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "results" / "walker.csv"
    assert write_results_csv([run_dir], path, metrics=("eval/return", "collect/return")) == 3
    assert path.read_text().splitlines()[0] == "env,algo,seed,frames,seconds,metric,value,commit"
    rows = read_results_csv(path)
    assert [(row.env, row.algo, row.seed, row.frames, row.metric, row.value, row.commit) for row in rows] == [
        ("walker", "vmil", 3, 0, "eval/return", 26.5, "0123abc"),
        ("walker", "vmil", 3, 10_000, "eval/return", 730.0, "0123abc"),
        ("walker", "vmil", 3, 10_000, "collect/return", 500.0, "0123abc"),
    ]
    assert rows[0].seconds == pytest.approx(3600, abs=5)


def test_the_picture_is_drawn_and_an_empty_one_is_refused(run_dir: Path, tmp_path: Path) -> None:
    write_results_csv([run_dir], tmp_path / "results.csv")
    rows = read_results_csv(tmp_path / "results.csv")
    plot_curve(rows, tmp_path / "curve.png", expert_return=946.0)
    assert Image.open(tmp_path / "curve.png").size == (1080, 384)
    with pytest.raises(ValueError, match="eval/success"):
        plot_curve(rows, tmp_path / "none.png", metric="eval/success")
