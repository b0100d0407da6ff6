"""Evaluations and reports of a small run: what is made when and in which order, and that looking changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from curves import read_curve
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tiny_run import PRETRAIN, UPDATES, Constant, Run, TinyLearner, Trap, kill

from vmil.tracking.curves import read_points
from vmil.tracking.record import read_record
from vmil.training.checkpoint import Checkpoint
from vmil.training.evaluate import Evaluate
from vmil.training.flush import TrackingFlush
from vmil.training.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore")


def test_what_a_run_reports_and_when(tmp_path: Path) -> None:
    run = Run(tmp_path).fit()
    assert len(run.learner.seen) == PRETRAIN + 4 * UPDATES
    losses = run.learner.seen
    means = [(10 * round_, pytest.approx(losses[1 + UPDATES * round_])) for round_ in range(5)]
    assert read_curve(tmp_path, "model/loss") == means
    assert read_curve(tmp_path, "replay/frames") == [(0, 0), (10, 10), (20, 20), (30, 30), (40, 40)]
    assert read_curve(tmp_path, "eval/return") == [(20, 15.0), (40, 15.0)]
    assert read_curve(tmp_path, "eval/normalised") == [(20, 0.5), (40, 0.5)]
    assert read_curve(tmp_path, "eval/reward_correlation") == [(20, 0.25), (40, 0.25)]
    names = {point.name for point in read_points(tmp_path)}
    assert names >= {"rate/frames", "rate/updates", "run/seconds", "system/memory_gb", "eval/seconds"}
    assert read_record(tmp_path)["status"] == "FINISHED"


def test_pictures_are_made_at_their_own_pace(tmp_path: Path) -> None:
    run = Run(tmp_path).fit()
    assert run.learner.asked == ["open loop"] * 2  # the first evaluation, then the 40th frame
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        f"{name}_{frames:09d}.png" for name in ("model_open_loop", "reward_histogram") for frames in (20, 40)
    }
    assert len(list((tmp_path / "videos").iterdir())) == 2


def test_evaluation_at_the_start_comes_before_any_frame_and_the_last_at_the_end(tmp_path: Path) -> None:
    Run(tmp_path, eval_at_start=True, eval_every_frames=30).fit()
    assert [frames for frames, _ in read_curve(tmp_path, "eval/return")] == [0, 30, 40]


def test_the_evaluation_at_the_start_is_made_up_for_if_a_stop_broke_it_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(learner: TinyLearner) -> Any:
        kill(None)
        return Constant(0.5)

    with monkeypatch.context() as patch:
        patch.setattr(TinyLearner, "portable_evaluation", struck)
        with pytest.raises(SIGTERMException):
            Run(tmp_path, eval_at_start=True).fit()
    assert read_curve(tmp_path, "eval/return") == []
    Run(tmp_path, eval_at_start=True).fit(resume=tmp_path / "checkpoints" / "last.ckpt")
    assert [frames for frames, _ in read_curve(tmp_path, "eval/return")] == [0, 20, 40]


def test_evaluation_does_not_change_training(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    often = Run(tmp_path / "a", eval_every_frames=10, eval_at_start=True).fit()
    seldom = Run(tmp_path / "b", eval_every_frames=1000).fit()
    assert often.learner.seen == seldom.learner.seen


def test_numbers_go_first_and_the_checkpoint_last(tmp_path: Path) -> None:
    kinds = [type(callback) for callback in Run(tmp_path, Trap(0, None)).trainer.callbacks]
    assert kinds.index(TrackingFlush) < kinds.index(Evaluate) < kinds.index(Progress) < kinds.index(Checkpoint)
    assert kinds[-1] is Checkpoint
