"""A complete tiny training run of each task with a score of its own, on its shipped demonstrations."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmil import cli
from vmil.tracking.curves import read_curve

pytestmark = pytest.mark.filterwarnings("ignore")


def test_sawyer_trains_and_is_judged_by_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [f"run.root={tmp_path}", f"demos.cache_dir={tmp_path}/cache", "run.name=tiny", "tracking.kind=csv"]
    short = ["env.episode_frames=20", "training.frames_per_epoch=20", "training.frames=40"]
    assert cli.main(["train", "env=sawyer", "compute=debug", *short, *where]) == 0
    run = tmp_path / "tiny"
    for name in ("eval/success", "eval/success_at_end", "collect/success"):
        values = [value for _, value in read_curve(run, name)]
        assert values, name
        assert set(values) == {0.0}, name  # nothing is learnt in forty frames, nor inserted in twenty
    assert read_curve(run, "eval/episodes")[-1][1] == 2
    assert read_curve(run, "eval/return")
    assert list((run / "videos").glob("*.mp4"))
    capsys.readouterr()
    assert cli.main(["evaluate", "run=tiny", f"root={tmp_path}", "episodes=1"]) == 0
    assert (
        "success 0.0 % (95 % interval 0 to 79 %) over 1 episodes, success_at_end 0, return" in capsys.readouterr().out
    )


def test_baoding_trains_on_pixels_and_joint_angles_and_is_judged_by_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [f"run.root={tmp_path}", f"demos.cache_dir={tmp_path}/cache", "run.name=tiny", "tracking.kind=csv"]
    short = ["env.episode_frames=20", "training.frames_per_epoch=20", "training.frames=40"]
    assert cli.main(["train", "env=baoding", "compute=debug", *short, *where]) == 0
    run = tmp_path / "tiny"
    for name in ("eval/success", "collect/success"):
        values = [value for _, value in read_curve(run, name)]
        assert values, name
        assert set(values) == {0.0}, name
    assert 0.0 < read_curve(run, "eval/tracking_error")[-1][1] < 1.0  # metres
    assert 0.0 <= read_curve(run, "eval/steps_to_drop")[-1][1] <= 20.0
    assert read_curve(run, "model/proprio"), "the joint angles are reconstructed"
    capsys.readouterr()
    assert cli.main(["evaluate", "run=tiny", f"root={tmp_path}", "episodes=1"]) == 0
    printed = capsys.readouterr().out
    assert "success 0.0 % (95 % interval 0 to 79 %) over 1 episodes, on_target" in printed
