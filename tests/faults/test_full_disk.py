"""A disk that is full costs a checkpoint or a log, never the last good checkpoint, and is always said."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty import Fault, Ground
from small_runs import assert_same_run

from vmil.tracking.record import read_record

pytestmark = pytest.mark.filterwarnings("ignore")
FILLER = "filler"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(directory: Path) -> None:
    with (directory / FILLER).open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def fill(learner: Any) -> None:
    """From this update on nothing more fits onto the run's disk."""
    _fill(Path(learner.trainer.default_root_dir).parent)


def no_space(_: Any) -> None:
    """The same where nothing may be mounted: the next file of a checkpoint fails as the kernel would make it fail."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if "/checkpoints/" not in path or not path.endswith(".part"):
            return fsync(descriptor)
        os.fsync = fsync
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    os.fsync = full


def frames_of(checkpoint: Path) -> int:
    """Frames at which it was made; reads the whole of it."""
    return int(torch.load(checkpoint, weights_only=True)["VMILDataModule"]["frames"])


def test_a_checkpoint_that_does_not_fit_is_made_later_and_the_run_is_the_same(tmp_path: Path) -> None:
    ground, run = Ground(tmp_path), tmp_path / "run"
    ended = ground.train("run", fault=Fault("update", 20, no_space))  # the next file is the checkpoint at 24 frames
    assert ended.code == 0, ended.said
    assert "no checkpoint at 24 frames: no space is left on the disk to write" in ended.said
    assert "; the run goes on" in ended.said
    assert frames_of(run / "checkpoints" / "last.ckpt") == 48
    assert frames_of(run / "checkpoints" / "previous.ckpt") == 36  # made up for after the next round
    assert not ground.leftovers(ended)


@pytest.mark.faults
def test_on_a_full_disk_a_run_keeps_its_last_checkpoint_and_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path
) -> None:
    plain, ground = Ground(tmp_path), Ground(small_disk)
    assert plain.train("whole").code == 0
    run = small_disk / "run"
    ended = ground.train("run", fault=Fault("update", 9, fill), spare_disk=0)
    assert (ended.code, len(ended.sentences)) == (2, 1), ended.said
    assert "vmil: trained to the end, but its last checkpoint could not be written" in ended.said
    assert "no checkpoint at 24 frames" in ended.said
    assert frames_of(run / "checkpoints" / "last.ckpt") == 0
    (small_disk / FILLER).unlink()
    resumed = ground.resume("run", spare_disk=0)
    assert resumed.code == 0, resumed.said
    assert_same_run(run, tmp_path / "whole")
    assert read_record(run)["status"] == "FINISHED"


@pytest.mark.faults
def test_demonstrations_that_cannot_be_drawn_onto_a_full_disk_are_one_sentence(
    tmp_path: Path, small_disk: Path
) -> None:
    ground = Ground(tmp_path)
    _fill(small_disk)
    ended = ground.train("run", f"demos.cache_dir={small_disk}")
    assert ended.code == 2
    [said] = ended.sentences
    assert "no space is left on the disk to write" in said
    assert "demos.cache_dir chooses another place" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_costs_its_lines_only(tmp_path: Path) -> None:
    ground, run = Ground(tmp_path), tmp_path / "run"
    assert ground.train("run", "training.frames=12").code == 0
    (run / "run.log").unlink()
    (run / "run.log").symlink_to("/dev/full")
    ended = ground.resume("run", "training.frames=24")
    assert ended.code == 0, ended.said
    assert ended.said.count("run.log cannot be written ([Errno 28] No space left on device); the run goes on") == 1
    assert "Traceback" not in ended.said
