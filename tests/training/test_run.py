"""Whole runs, end to end: what lies in their directory, and that no end, however sudden, and no mistake costs one.

Runs are of the counting environment, with networks of a few units: a second each. Updates: 2 of pre-training, then 3 in
each of four rounds of 12 frames; checkpoints after update 2, 8 (24 frames) and 14 (48 frames).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_runs import (
    FRAMES,
    LAST_UPDATE,
    PRETRAIN,
    ROUND,
    SMALL,
    UPDATES,
    assert_same_run,
    numbers,
    weights,
    write_demos,
)

from vmil import cli
from vmil.config.keys import leaves, sections
from vmil.config.learners import unread
from vmil.config.load import load_saved_config
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.envs.rendering import BACKENDS, probe_backend
from vmil.errors import NonFiniteError
from vmil.experiments.cell import in_use
from vmil.experiments.schedule import LOOK_AGAIN
from vmil.system.cuda import Driver
from vmil.tracking.curves import read_curve
from vmil.tracking.record import read_record
from vmil.training.checkpoint import Checkpoint
from vmil.training.rundir import git_commit, locked
from vmil.training.vmil import VMIL

pytestmark = pytest.mark.filterwarnings("ignore")

# Read only by what this run does not do: track elsewhere, be part of an experiment, collect in other processes.
UNREAD_HERE = {
    "behaviour.mean_scale",  # of the other kind of policy
    "collector.timeout",
    "run.variant",
    "tracking.uri",
    "tracking.experiment",
    "tracking.parent",
    "tracking.system_metrics",
}


@dataclass
class Place:
    """Where runs, demonstrations and their cache lie."""

    root: Path

    def settings(self, name: str, *more: str) -> list[str]:
        """What follows `vmil train`."""
        where = (f"run.root={self.root}", f"demos.path={self.root}/demos", f"demos.cache_dir={self.root}/cache")
        return [*SMALL, *where, f"run.name={name}", "tracking.kind=csv", *more]

    def train(self, name: str, *more: str) -> int:
        """`vmil train`; its exit code."""
        return cli.main(["train", *self.settings(name, *more)])

    def resume(self, name: str, *more: str) -> int:
        """`vmil resume`; its exit code."""
        return cli.main(["resume", f"run={name}", f"root={self.root}", *more])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Takes the runs' log handlers away again."""
    logger = logging.getLogger("vmil")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    for handler in set(logger.handlers) - set(before[0]):
        handler.close()
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def place(tmp_path: Path) -> Place:
    write_demos(tmp_path / "demos")
    return Place(tmp_path)


@dataclass
class Watch:
    """What a run did, seen from inside."""

    rewarded: list[bool] = field(default_factory=list)  # per update: whether the batch held the environment's reward
    read: set[str] = field(default_factory=set)  # leaves of the configuration that the program read

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Begins to look."""
        step = VMIL.training_step

        def training_step(learner: VMIL, batch: Batch, batch_idx: int) -> None:
            self.rewarded.append(batch.reward is not None)
            step(learner, batch, batch_idx)

        patch.setattr(VMIL, "training_step", training_step)
        config = Config()
        self._record(patch, Config, "")
        for name in sections(Config):
            self._record(patch, type(getattr(config, name)), f"{name}.")

    def _record(self, patch: pytest.MonkeyPatch, kind: type, prefix: str) -> None:
        def getattribute(config: Any, name: str) -> Any:
            caller = sys._getframe(1).f_code.co_filename
            if "/vmil/" in caller and "/vmil/config/" not in caller:  # those read every leaf, whatever it is for
                self.read.add(prefix + name)
            return object.__getattribute__(config, name)

        patch.setattr(kind, "__getattribute__", getattribute)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A run that nothing stops, its place, and what was seen of it; not to be changed."""
    place, watch = Place(tmp_path_factory.mktemp("whole")), Watch()
    write_demos(place.root / "demos")
    with pytest.MonkeyPatch.context() as patch:
        watch.install(patch)
        assert place.train("whole") == 0
    return SimpleNamespace(run=place.root / "whole", place=place, watch=watch)


@pytest.fixture
def stopped(whole: SimpleNamespace, tmp_path: Path) -> Place:
    """A place with a copy of the whole run, to be spoilt."""
    shutil.copytree(whole.run, tmp_path / "run")
    shutil.copytree(whole.place.root / "demos", tmp_path / "demos")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(whole.place.root), str(tmp_path)))
    return Place(tmp_path)


def sentence(capsys: pytest.CaptureFixture[str]) -> str:
    """The complaint on stderr, which is its only line that is no log."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("vmil: ", "Traceback"))]
    assert len(lines) == 1, lines
    return lines[0]


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


# ---- a run that nothing stops --------------------------------------------------------------------------------


def test_the_run_directory_holds_everything(whole: SimpleNamespace) -> None:
    run: Path = whole.run
    assert {path.name for path in run.iterdir()} == {
        ".lock", "checkpoints", "config.yaml", "metrics.csv", "pictures", "run.json", "run.log", "videos",
    }  # fmt: skip
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "replay"}
    assert len(list((run / "checkpoints" / "replay").iterdir())) == FRAMES // ROUND
    assert {path.name for path in (run / "pictures").iterdir()} == {
        f"{name}_{frames:09d}.png" for name in ("model_open_loop", "reward_histogram") for frames in (24, 48)
    }
    assert {path.name for path in (run / "videos").iterdir()} == {f"eval_episode_{f:09d}.mp4" for f in (24, 48)}
    record: dict[str, Any] = read_record(run)
    assert record["status"] == "FINISHED"
    assert record["seconds"] > 0
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", record["tags"]["commit"])
    assert (record["tags"]["env"], record["tags"]["algo"]) == ("counting", "vmil_plus")
    assert record["tags"]["demonstrations"] == "2"
    config = load_saved_config(run / "config.yaml")
    assert (config.training.frames, config.world_model.deter) == (FRAMES, 16)
    said = (run / "run.log").read_text()
    assert "48/48 frames" in said
    assert "memory: replay up to" in said
    assert "NOT IMITATION" not in said


def test_every_number_of_the_paper_is_reported_every_round(whole: SimpleNamespace) -> None:
    rounds = list(range(0, FRAMES + 1, ROUND))
    for name in ("model/loss", "disc/loss", "actor/loss", "critic/loss", "reward/mean", "time/model", "rate/frames"):
        assert [frames for frames, _ in read_curve(whole.run, name)] == rounds, name
    assert [frames for frames, _ in read_curve(whole.run, "collect/return")] == rounds[1:]
    assert [frames for frames, _ in read_curve(whole.run, "eval/return")] == [24, 48]


def test_imitation_never_sees_the_environment_s_reward(whole: SimpleNamespace) -> None:
    assert whole.watch.rewarded == [False] * LAST_UPDATE


def test_every_knob_is_read_by_a_run(whole: SimpleNamespace) -> None:
    assert set(leaves(Config)) - whole.watch.read == UNREAD_HERE | unread("vmil")


def test_the_environment_s_reward_in_the_discriminator_s_place_is_said_loudly(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    watch.install(monkeypatch)
    assert place.train("judge", "debug.use_ground_truth_reward=true", f"training.frames={ROUND}") == 0
    assert watch.rewarded == [True] * (PRETRAIN + UPDATES)
    assert re.search(r"WARNING NOT IMITATION: .*environment's reward", (place.root / "judge" / "run.log").read_text())
    assert len(read_curve(place.root / "judge", "model/reward")) == 2


# ---- stopping and resuming -----------------------------------------------------------------------------------

KILLED_AT = """
import os, signal, sys
from vmil.learner.module import ImitationModule
from vmil import cli

count = ImitationModule.count_update

def count_update(learner):
    count(learner)
    if learner.updates == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

ImitationModule.count_update = count_update
sys.exit(cli.main(sys.argv[2:]))
"""


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


# ---- what a person does wrong --------------------------------------------------------------------------------


def digest(run: Path) -> dict[str, str]:
    """What a run holds, but for what every start writes to its log."""
    files = [path for path in run.rglob("*") if path.is_file() and path.name != "run.log"]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def unlink_both(path: Path) -> None:
    path.unlink()
    path.with_name("previous.ckpt").unlink()


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


@pytest.mark.parametrize(
    ("overrides", "spoil", "complaint"),
    [
        (["world_model.deter=24"], None, r"of another architecture: '[\w.]+' is \(\d.*\) there and \(\d.*\) in this"),
        (["behaviour.critic_layers=4"], None, r"of another architecture: '[\w.]+' is absent there and \(\d"),
        (["env.proprio=true"], None, r"env.proprio=True cannot change a run that exists \(False\): start a new one"),
        ([], truncate, "last.ckpt' is damaged, or not a checkpoint of vmil; 'previous.ckpt' beside it"),
        ([], overwrite, "last.ckpt' is damaged, or not a checkpoint of vmil"),
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


def test_a_package_within_another_project_has_no_commit_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "theirs" / "site-packages" / "rundir.py"
    package.parent.mkdir(parents=True)
    package.touch()
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "theirs"]
    for arguments in (["init", "-q"], commit):
        subprocess.run(["git", *arguments], cwd=tmp_path / "theirs", check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmil.training.rundir.__file__", str(package))
        assert git_commit() == "unknown"
        subprocess.run(["git", "add", "."], cwd=tmp_path / "theirs", check=True)
        assert re.fullmatch(r"[0-9a-f]{40}\+?", git_commit())


def test_neither_are_other_files(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    video = place.root / "mine" / "videos" / "birthday.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    assert place.train("mine") == 2
    assert "holds files that are no run's: take another run.name" in sentence(capsys)
    assert video.exists()


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
    """It left a configuration and numbers, none of which may turn up in the new run."""
    run = stopped.root / "run"
    unlink_both(run / "checkpoints" / "last.ckpt")
    (run / "run.json").write_text(json.dumps({"status": "RUNNING", "mlflow_run_id": "of the dead"}))
    assert stopped.train("run", f"training.frames={ROUND}", "training.checkpoint_every_frames=12") == 0
    assert numbers(run) == [row for row in numbers(whole.run) if row[0] <= ROUND] + [
        row for row in numbers(run) if row[1].startswith("eval/")
    ]
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


# ---- evaluation ----------------------------------------------------------------------------------------------


def test_a_run_is_scored_and_filmed_without_any_tracking(
    stopped: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vmil.training.assembly.make_tracker", None)
    run = stopped.root / "run"
    assert cli.main(["evaluate", f"run={run}", "episodes=2"]) == 0
    film = run / "videos" / "evaluation.mp4"
    assert capsys.readouterr().out == f"run: 0.0 ± 0.0 over 2 episodes, 0.0 % of the expert\nvideo: {film}\n"
    assert film.stat().st_size > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_run_that_was_trained_on_a_gpu_is_scored_without_one(
    stopped: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = stopped.root / "run" / "config.yaml"
    path.write_text(path.read_text().replace("device: cpu", "device: cuda").replace("device: auto", "device: cuda"))
    assert "device: cuda" in path.read_text()
    assert cli.main(["evaluate", f"run={stopped.root}/run", "episodes=1"]) == 0
    assert capsys.readouterr().out.startswith("run: 0.0 ± 0.0 over 1 episode")


def test_without_its_demonstrations_a_run_is_still_scored(stopped: Place, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(stopped.root / "demos")
    film = stopped.root / "elsewhere" / "film.mp4"
    assert cli.main(["evaluate", f"run={stopped.root}/run", "episodes=1", f"video={film}"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "run: 0.0 ± 0.0 over 1 episode"
    assert film.stat().st_size > 0


@pytest.mark.parametrize(
    ("spoil", "settings", "complaint"),
    [
        (truncate, [], "is damaged, or not a checkpoint of vmil"),
        (Path.unlink, [], r"there is no checkpoint '.*last.ckpt' yet"),
        (
            None,
            ["video=/dev/null/films/film.mp4"],
            "the video '/dev/null/films/film.mp4' cannot be written: Not a directory",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(
    stopped: Place,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], object] | None,
    settings: list[str],
    complaint: str,
) -> None:
    if spoil is not None:
        spoil(stopped.root / "run" / "checkpoints" / "last.ckpt")
    assert cli.main(["evaluate", f"run={stopped.root}/run", "episodes=1", *settings]) == 2
    assert re.search(complaint, sentence(capsys))


# ---- elsewhere -----------------------------------------------------------------------------------------------

WITHOUT_MLFLOW = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "mlflow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from vmil import cli
codes = [cli.main(["train", *sys.argv[1:], f"tracking.kind={kind}", f"run.name={kind}"]) for kind in ("none", "csv")]
assert codes == [0, 0], codes
assert not [name for name in sys.modules if name.partition(".")[0] == "mlflow"]
assert cli.main(["train", *sys.argv[1:], "tracking.kind=mlflow", "run.name=mlflow"]) == 2
"""


def test_runs_without_mlflow_installed(place: Place) -> None:
    done = python(WITHOUT_MLFLOW, *place.settings("x", f"training.frames={ROUND}"))
    assert done.returncode == 0, done.stderr
    complaint = "vmil: tracking.kind=mlflow needs mlflow: install it or take tracking.kind=csv"
    assert done.stderr.splitlines()[-1] == complaint
    assert not (place.root / "none" / "metrics.csv").exists()
    assert len(read_curve(place.root / "csv", "model/loss")) == 2
    for kind in ("none", "csv"):
        assert (place.root / kind / "checkpoints" / "last.ckpt").is_file()
    assert not (place.root / "mlflow").exists()


@pytest.fixture(scope="module")
def rendering() -> None:
    """Skips where nothing renders."""
    if not any(probe_backend(name).ok for name in BACKENDS):
        pytest.skip("no headless OpenGL here")


@pytest.mark.usefixtures("rendering")
def test_a_walker_runs_and_its_score_is_found_again(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["env=walker", "env.action_repeat=2", "env.episode_frames=24", "training.frames=24"]
    rounds = ["training.frames_per_epoch=24", "demos.path=null", "demos.count=1", "env.proprio=true"]
    assert place.train("walker", *settings, *rounds) == 0
    run = place.root / "walker"
    [(frames, score)] = read_curve(run, "eval/return")
    assert frames == 24
    assert score > 0
    capsys.readouterr()
    assert (
        cli.main(
            ["evaluate", f"run={run}", f"episodes={load_saved_config(run / 'config.yaml').training.eval_episodes}"]
        )
        == 0
    )
    assert capsys.readouterr().out.startswith(f"walker: {score:.1f} ± ")
