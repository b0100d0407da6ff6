"""No end of a run, however sudden, costs anything: it goes on to the same weights and numbers."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest
import torch
from curves import read_curve
from place import KILLED_AT, Place, digest, python, sentence
from small_runs import FRAMES, PRETRAIN, ROUND, UPDATES, assert_same_run, numbers, weights

from vmil.config.load import load_saved_config
from vmil.system.cuda import Driver
from vmil.tracking.record import read_record, update_record
from vmil.training.vmil import VMIL

pytestmark = pytest.mark.filterwarnings("ignore")


def test_killed_and_resumed_equals_never_killed(whole: SimpleNamespace, place: Place) -> None:
    """Killed in the fourth round, whose predecessor's numbers are written but in no checkpoint."""
    run, update = place.root / "run", PRETRAIN + 3 * UPDATES + 2
    done = python(KILLED_AT, str(update), "train", *place.settings("run"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert read_curve(run, "model/loss")[-1][0] == 36
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["VMILDataModule"]["frames"] == 24
    assert place.resume("run") == 0
    assert_same_run(run, whole.run)
    assert read_record(run)["status"] == "FINISHED"


def terminate_at(update: int, patch: pytest.MonkeyPatch) -> None:
    """Has SIGTERM sent to this process after that many updates."""
    count = VMIL.count_update

    def count_update(learner: VMIL) -> None:
        count(learner)
        if learner.updates == update:
            os.kill(os.getpid(), signal.SIGTERM)

    patch.setattr(VMIL, "count_update", count_update)


@pytest.mark.parametrize("update", [1, PRETRAIN + UPDATES + 1], ids=["in pre-training", "in a round"])
def test_terminated_and_resumed_equals_never_terminated(
    whole: SimpleNamespace,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    update: int,
) -> None:
    run = place.root / "run"
    handler = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        terminate_at(update, patch)
        assert place.train("run") == 143
    assert sentence(capsys) == f"vmil: stopped; `make resume RUN={run}` goes on from here"
    assert signal.getsignal(signal.SIGTERM) == handler
    assert read_record(run)["status"] == "KILLED"
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["updates_done"] == update
    assert place.resume("run") == 0
    assert_same_run(run, whole.run)


def test_evaluated_beside_training_it_is_the_same_run(whole: SimpleNamespace, place: Place) -> None:
    """But for the order in which its numbers arrive."""
    assert place.train("beside", "training.background_evaluation=always") == 0
    assert sorted(numbers(place.root / "beside")) == sorted(numbers(whole.run))
    mine, theirs = weights(place.root / "beside"), weights(whole.run)
    assert [name for name in theirs if not torch.equal(mine[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("begun", "update", "overrides"),
    [
        ([], PRETRAIN + UPDATES + 1, ["training.frames_per_epoch=24"]),
        ([], PRETRAIN + 3 * UPDATES + 1, ["training.frames_per_epoch=24"]),
        ([], PRETRAIN + UPDATES + 1, ["training.updates_per_epoch=1"]),
        (["training.frames=40"], PRETRAIN + 3 * UPDATES + 2, []),
    ],
    ids=["larger rounds", "larger rounds in the last", "fewer updates", "a budget that is no multiple of a round"],
)
def test_a_stopped_run_comes_to_its_budget(
    place: Place, monkeypatch: pytest.MonkeyPatch, begun: list[str], update: int, overrides: list[str]
) -> None:
    run = place.root / "run"
    with monkeypatch.context() as patch:
        terminate_at(update, patch)
        assert place.train("run", *begun) == 143
    assert place.resume("run", *overrides) == 0
    assert read_curve(run, "model/loss")[-1][0] == FRAMES
    assert read_curve(run, "eval/return")[-1][0] == FRAMES


def test_a_run_may_be_evaluated_before_it_has_seen_a_frame(place: Place) -> None:
    """Its first pictures are of demonstrations alone: there is no replay to draw from."""
    settings = ["training.eval_at_start=true", "training.pretrain_updates=0", f"training.frames={ROUND}"]
    assert place.train("run", *settings) == 0
    assert read_curve(place.root / "run", "eval/return")[0][0] == 0


def test_a_gpu_that_is_not_there_is_one_sentence_before_anything_is_done(
    stopped: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = digest(stopped.root / "run")
    assert stopped.resume("run", f"training.frames={FRAMES + ROUND}", "compute.device=cuda") == 2
    assert "needs as many CUDA GPUs, and torch finds 0: set compute.device to auto" in sentence(capsys)
    assert digest(stopped.root / "run") == before
    assert stopped.train("new", "compute.device=cuda") == 2
    assert not (stopped.root / "new").exists()
    monkeypatch.setattr("vmil.learner.device.torch_cuda", lambda: 13)
    monkeypatch.setattr("vmil.learner.device.nvidia_driver", lambda: Driver(gpus=1, cuda=12))
    sentence(capsys)
    assert stopped.train("new", "compute.device=cuda") == 2
    assert "torch is built for CUDA 13, and the NVIDIA driver knows CUDA up to 12: renew it" in sentence(capsys)


def test_a_finished_run_goes_on_when_its_budget_is_raised(stopped: Place) -> None:
    run = stopped.root / "run"
    assert stopped.resume("run", f"training.frames={FRAMES + ROUND}") == 0
    assert read_curve(run, "model/loss")[-1][0] == FRAMES + ROUND
    assert load_saved_config(run / "config.yaml").training.frames == FRAMES + ROUND


def test_a_finished_run_that_is_resumed_as_it_is_says_that_nothing_is_left(
    stopped: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    before = read_curve(stopped.root / "run", "model/loss")
    assert stopped.resume("run") == 0
    assert f"all training.frames={FRAMES} frames are collected; raise training.frames" in capsys.readouterr().err
    assert read_curve(stopped.root / "run", "model/loss") == before


def test_a_lower_budget_that_leaves_nothing_to_train_changes_neither_configuration_nor_status(stopped: Place) -> None:
    """Or a run that was stopped half-way would count as finished, at its own budget, which it never saw."""
    run, checkpoints = stopped.root / "run", stopped.root / "run" / "checkpoints"
    (checkpoints / "previous.ckpt").replace(checkpoints / "last.ckpt")
    update_record(run, status="KILLED")
    config, tags = (run / "config.yaml").read_text(), read_record(run)["tags"]
    assert stopped.resume("run", f"training.frames={FRAMES // 2}", "training.eval_episodes=1") == 0
    assert (run / "config.yaml").read_text() == config
    assert (read_record(run)["status"], read_record(run)["tags"]) == ("KILLED", tags)
    assert stopped.resume("run") == 0
    assert read_record(run)["status"] == "FINISHED"
    assert read_curve(run, "model/loss")[-1][0] == FRAMES
