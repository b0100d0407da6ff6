"""Stopped, broken and resumed: the run goes on as if nothing had happened, and the last good checkpoint stays."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from curves import read_curve
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tiny_run import PRETRAIN, UPDATES, Run, Trap, break_down, interrupt, kill, values

from vmil.errors import UserError
from vmil.tracking.record import read_record
from vmil.tracking.tracker import CsvTracker
from vmil.training.checkpoint import Checkpoint
from vmil.training.progress import start_logging

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """A run that nobody stops: where it lies, and the losses of its updates."""
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, Run(run_dir).fit().learner.seen


@pytest.mark.parametrize(
    ("update", "stop"),
    [(1, kill), (PRETRAIN, kill), (PRETRAIN + 2, interrupt), (PRETRAIN + 2 * UPDATES, kill)],
    ids=["in pre-training", "after pre-training", "in a round, by Ctrl-C", "when an evaluation is due"],
)
def test_stopped_and_resumed_is_the_same_as_never_stopped(
    tmp_path: Path, whole: tuple[Path, list[float]], update: int, stop: Any
) -> None:
    before = signal.getsignal(signal.SIGINT)
    first = Run(tmp_path, Trap(update, stop))
    with pytest.raises(SIGTERMException):
        first.fit()
    assert signal.getsignal(signal.SIGINT) == before
    assert len(first.learner.seen) == update
    assert read_record(tmp_path)["status"] == "KILLED"

    second = Run(tmp_path).fit(resume=tmp_path / "checkpoints" / "last.ckpt")
    assert first.learner.seen + second.learner.seen == whole[1]
    assert values(tmp_path) == values(whole[0])
    assert read_record(tmp_path)["status"] == "FINISHED"


def test_a_ctrl_c_that_a_script_has_ignored_stops_nothing(tmp_path: Path, whole: tuple[Path, list[float]]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = Run(tmp_path, Trap(PRETRAIN + 2, interrupt)).fit()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert run.learner.seen == whole[1]


def test_an_error_leaves_the_last_checkpoint_alone_and_marks_the_run_failed(tmp_path: Path) -> None:
    run = Run(tmp_path, Trap(PRETRAIN + 2 * UPDATES + 1, break_down))
    with pytest.raises(RuntimeError, match="broken"):
        run.fit()
    assert read_record(tmp_path)["status"] == "FAILED"
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["TinyData"]["frames"] == 20

    resumed = Run(tmp_path).fit(resume=tmp_path / "checkpoints" / "last.ckpt")
    assert len(resumed.learner.seen) == 2 * UPDATES
    assert [frames for frames, _ in read_curve(tmp_path, "model/loss")] == [0, 10, 20, 30, 40]


def test_checkpoints_come_in_their_rhythm_and_the_one_before_is_kept(tmp_path: Path, monkeypatch: Any) -> None:
    saved: list[int] = []
    save = Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda self, t: saved.append(t.datamodule.frames) or save(self, t))
    Run(tmp_path).fit()
    assert saved == [0, 20, 40]
    directory = tmp_path / "checkpoints"
    assert {path.name for path in directory.iterdir()} == {"last.ckpt", "previous.ckpt"}
    checkpoints = [torch.load(directory / name, weights_only=True) for name in ("previous.ckpt", "last.ckpt")]
    assert [checkpoint["TinyData"]["frames"] for checkpoint in checkpoints] == [20, 40]


def test_a_stop_does_not_wait_for_a_server_and_the_round_it_was_in_still_ends_with_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[bool] = []
    monkeypatch.setattr(CsvTracker, "flush", lambda self, wait=True: waited.append(wait))
    first = Run(tmp_path, Trap(PRETRAIN + UPDATES + 1, kill), eval_every_frames=1000)  # the first update at 20 frames
    with pytest.raises(SIGTERMException):
        first.fit()
    assert first.data.committed == [0, 20]
    assert waited == [True, False, False]  # after pre-training, at the stop, and at the run's end
    second = Run(tmp_path, eval_every_frames=1000).fit(resume=first.find(Checkpoint).last_path)
    assert second.data.committed == [20, 40]
    assert waited[3:] == [True, True, False]


class StopEarly(Callback):
    """A stop that comes before the first update, when weights are restored but no optimiser."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        raise SIGTERMException


def test_a_stop_before_the_run_has_restored_its_state_leaves_the_last_checkpoint_alone(tmp_path: Path) -> None:
    first = Run(tmp_path, Trap(PRETRAIN + 1, kill))
    with pytest.raises(SIGTERMException):
        first.fit()
    last = first.find(Checkpoint).last_path
    before, second = last.read_bytes(), Run(tmp_path, StopEarly())
    with pytest.raises(SIGTERMException):
        second.fit(resume=last)
    assert last.read_bytes() == before
    assert second.data.committed == []


@pytest.mark.parametrize("linkable", [True, False])
def test_a_full_disk_costs_a_checkpoint_but_neither_the_run_nor_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, linkable: bool
) -> None:
    if not linkable:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()))

    def fill(trainer: Any) -> None:
        trainer.datamodule.fail = OSError(errno.ENOSPC, "No space left on device")

    def make_room(trainer: Any) -> None:
        trainer.datamodule.fail = None

    run = Run(tmp_path, Trap(PRETRAIN + 1, fill))
    room = Trap(PRETRAIN + 3 * UPDATES, make_room)
    run.trainer.callbacks.insert(0, room)
    with caplog.at_level(logging.WARNING, "vmil"):
        run.fit()
    assert [record.message for record in caplog.records if record.name.startswith("vmil")] == [
        "no checkpoint at 20 frames: the disk is full; the run goes on"
    ]
    directory = tmp_path / "checkpoints"
    assert torch.load(directory / "last.ckpt", weights_only=True)["TinyData"]["frames"] == 40
    assert torch.load(directory / "previous.ckpt", weights_only=True)["TinyData"]["frames"] == 30  # tried again at once
    assert run.data.committed == [0, 30, 40]


@pytest.mark.parametrize("remove", [shutil.rmtree, lambda path: path.rename(path.with_name("elsewhere"))])
def test_a_run_whose_directory_is_taken_away_ends_with_an_error_and_does_not_bring_it_back(
    tmp_path: Path, remove: Any
) -> None:
    run = Run(tmp_path / "run", Trap(PRETRAIN + 1, lambda _: remove(tmp_path / "run")))
    with pytest.raises(UserError, match=r"run' was taken away while it trained \(it has no config\.yaml\): start"):
        run.fit()
    assert not (tmp_path / "run").exists()


class ClosedTerminal(io.StringIO):
    """What a terminal is to a process that outlives it."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_closed_terminal_and_a_full_disk_do_not_keep_a_stopped_run_from_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", ClosedTerminal())
    run = Run(tmp_path, Trap(PRETRAIN + 1, interrupt))
    start_logging(tmp_path)
    handlers = logging.getLogger("vmil").handlers
    file = next(handler for handler in handlers if isinstance(handler, logging.FileHandler))
    with monkeypatch.context() as patch:
        patch.setattr(file, "stream", ClosedTerminal())
        with pytest.raises(SIGTERMException):  # after a warning, that it stops
            run.fit()
    assert torch.load(run.find(Checkpoint).last_path, weights_only=True)["TinyData"]["owed"] == UPDATES - 1
