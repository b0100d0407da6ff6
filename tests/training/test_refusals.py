"""What a person does wrong with a run is one sentence, and costs nothing of what is there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from place import Place, digest, python, sentence, truncate, unlink_both
from small_runs import FRAMES, ROUND, numbers

from vmil.config.load import load_config
from vmil.config.runs import CONFIG_FILE, LOCK_FILE
from vmil.errors import LOOK_AGAIN, NonFiniteError
from vmil.experiments.cell import in_use
from vmil.tracking.record import read_record
from vmil.training.checkpoint import Checkpoint
from vmil.training.rundir import locked, new_run
from vmil.training.vmil import VMIL

pytestmark = pytest.mark.filterwarnings("ignore")


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


def forget(path: Path) -> None:
    """What every checkpoint holds besides weights."""
    content = torch.load(path, weights_only=True)
    del content["means"]
    torch.save(content, path)


@pytest.mark.parametrize(
    ("overrides", "spoil", "complaint"),
    [
        (["world_model.deter=24"], None, r"of another architecture: '[\w.]+' is \(\d.*\) there and \(\d.*\) in this"),
        (["behaviour.critic_layers=4"], None, r"of another architecture: '[\w.]+' is absent there and \(\d"),
        (["env.proprio=true"], None, r"env.proprio=true cannot change a run that exists \(false\): start a new one"),
        ([], truncate, "last.ckpt' is damaged, or not a checkpoint of vmil; 'previous.ckpt' beside it"),
        ([], overwrite, "last.ckpt' is damaged, or not a checkpoint of vmil"),
        ([], forget, "last.ckpt' is damaged, or not a checkpoint of vmil"),
        ([], Path.unlink, "has no last.ckpt: copy previous.ckpt, the one before, to that name"),
        ([], unlink_both, "was stopped before its first checkpoint: start again with `make train`"),
        ([f"training.frames={ROUND}"], None, f"training.frames={ROUND}: the run has collected {FRAMES} already"),
        (["training.frames=0"], None, r"training.frames=0 is outside \[1, inf\)"),
    ],
)
def test_what_cannot_be_resumed_is_one_sentence_and_spoils_nothing(
    stopped: Place,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    spoil: Callable[[Path], object] | None,
    complaint: str,
) -> None:
    run = stopped.root / "run"
    if spoil is not None:
        spoil(run / "checkpoints" / "last.ckpt")
    before = digest(run)
    assert stopped.resume("run", *overrides) == 2
    assert re.search(complaint, sentence(capsys))
    assert digest(run) == before


@pytest.mark.parametrize(
    ("overrides", "damaged", "complaint"),
    [
        (["demos.count=1"], "", "the demonstrations are not those that the checkpoint's run imitates"),
        ([f"training.frames={2 * FRAMES}"], "replay/episode_000001.safetensors.gz", "is corrupt or truncated"),
    ],
)
def test_data_that_do_not_fit_the_checkpoint_leave_checkpoint_and_configuration_alone(
    stopped: Place, capsys: pytest.CaptureFixture[str], overrides: list[str], damaged: str, complaint: str
) -> None:
    run = stopped.root / "run"
    if damaged:
        truncate(run / "checkpoints" / damaged)
    before = digest(run)
    assert stopped.resume("run", *overrides) == 2
    assert complaint in sentence(capsys)
    after = digest(run)
    assert {name for name in before if after[name] != before[name]} <= {"run.json"}


def test_a_run_is_used_by_one_process_at_a_time(stopped: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = stopped.root / "run"
    assert not in_use(run)
    with locked(run):
        assert in_use(run)  # by which an experiment knows that it must not start it
        assert stopped.resume("run") == LOOK_AGAIN  # should another one have begun it since
        assert sentence(capsys) == f"vmil: the run directory '{run}' is in use by another process"
        assert stopped.train("run") == LOOK_AGAIN
        assert "is in use by another process" in sentence(capsys)


def test_a_run_is_not_overwritten_by_another(stopped: Place, capsys: pytest.CaptureFixture[str]) -> None:
    run = stopped.root / "run"
    before = digest(run)
    assert stopped.train("run") == 2
    assert f"'{run}' holds a run already: go on with it by `make resume RUN={run}`" in sentence(capsys)
    assert digest(run) == before
    (run / "checkpoints" / "last.ckpt").unlink()  # the one before may still be taken up
    assert stopped.train("run") == 2
    assert "holds a run already" in sentence(capsys)
    assert (run / "checkpoints" / "previous.ckpt").exists()


def test_another_rank_is_refused_as_the_first_one_is(
    stopped: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or it would wait for hours for one that has gone."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    assert stopped.train("run", "compute.devices=2", f"training.frames_per_epoch={2 * ROUND}") == 2
    assert "holds a run already" in sentence(capsys)


def test_where_there_are_no_locks_a_run_says_so_and_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        assert "cannot be locked (No locks available): nothing keeps a second process out" in caplog.text


def test_neither_are_other_files(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    video = place.root / "mine" / "videos" / "birthday.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    assert place.train("mine") == 2
    assert "holds files that are no run's: take another run.name" in sentence(capsys)
    assert video.exists()


def test_a_run_killed_while_it_wrote_its_configuration_is_no_other_s(tmp_path: Path) -> None:
    half = tmp_path / "runs" / "run" / ".config.yaml.1.part"
    half.parent.mkdir(parents=True)
    half.touch()
    with new_run(load_config([f"run.root={tmp_path / 'runs'}", "run.name=run"])) as run_dir:
        assert {path.name for path in run_dir.iterdir()} == {CONFIG_FILE, LOCK_FILE}


def test_a_start_that_fails_leaves_nothing_behind_and_can_be_made_again(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = place.root / "demos" / "demo_01.npz"
    sound = demo.read_bytes()
    truncate(demo)
    assert place.train("run") == 2
    assert sentence(capsys) == f"vmil: {demo} is corrupt or truncated"
    assert not (place.root / "run").exists()
    demo.write_bytes(sound)
    assert place.train("run", f"training.frames={ROUND}") == 0


def test_a_run_killed_before_its_first_checkpoint_is_begun_anew(whole: SimpleNamespace, stopped: Place) -> None:
    """It left a configuration, numbers and half a file, none of which may turn up in the new run."""
    run = stopped.root / "run"
    (run / ".run.json.1.part").touch()
    unlink_both(run / "checkpoints" / "last.ckpt")
    (run / "run.json").write_text(json.dumps({"status": "RUNNING", "mlflow_run_id": "of the dead"}))
    assert stopped.train("run", f"training.frames={ROUND}", "training.checkpoint_every_frames=12") == 0
    assert numbers(run) == [row for row in numbers(whole.run) if row[0] <= ROUND] + [
        row for row in numbers(run) if row[1].startswith("eval/")
    ]
    assert not (run / ".run.json.1.part").exists()
    assert "mlflow_run_id" not in read_record(run)


@pytest.mark.parametrize("saved", [0, 1])
def test_a_run_that_trained_to_its_end_on_a_full_disk_keeps_its_numbers(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], saved: int
) -> None:
    """And says how to go on: whether that many checkpoints were written before the disk was full, or none."""
    written, write = [], Checkpoint._write

    def full(checkpoint: Checkpoint, trainer: Any) -> None:
        if len(written) == saved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(trainer)
        write(checkpoint, trainer)

    monkeypatch.setattr(Checkpoint, "_write", full)
    assert place.train("run", f"training.frames={ROUND}") == 2
    run = place.root / "run"
    what = "its last checkpoint could not" if saved else "no checkpoint could"
    how = "`make resume`" if saved else "start again with `make train`"
    assert sentence(capsys) == f"vmil: trained to the end, but {what} be written: make room, then {how}"
    assert numbers(run)
    assert (run / "run.log").is_file()


def test_a_run_that_breaks_down_before_its_first_checkpoint_is_not_to_be_resumed(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise NonFiniteError("the model loss is not finite at update 1")

    monkeypatch.setattr(VMIL, "fit_model", broken)
    assert place.train("run") == 1
    assert sentence(capsys).endswith("at update 1; there is no checkpoint yet: start again with `make train`")


def test_too_little_disk_is_said_before_anything_is_done(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, used=10**9, free=10**8))
    assert place.train("run") == 2
    assert re.search(r"has 0\.1 GB free, and this run may need 0\.\d GB: free some, set run.root", sentence(capsys))
    assert not (place.root / "run").exists()


def test_a_root_that_cannot_be_written_is_one_sentence(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.root / "file").touch()
    assert place.train("run", f"run.root={place.root}/file") == 2
    assert f"the run directory '{place.root}/file/run' cannot be written: Not a directory" in sentence(capsys)


def test_a_wrong_mujoco_gl_is_one_sentence(tmp_path: Path) -> None:
    """torchrl imports mujoco, which raises at that: the choice must come before."""
    code = "import sys; from vmil import cli; sys.exit(cli.main(sys.argv[1:]))"
    done = python(code, "train", "env=walker", f"run.root={tmp_path}", MUJOCO_GL="nonsense")
    assert done.returncode == 2
    assert re.fullmatch(r"vmil: MUJOCO_GL='nonsense' cannot render here: .*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []
