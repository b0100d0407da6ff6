"""The callbacks around a small learner: what is reported when, and that stopping and resuming changes nothing."""

from __future__ import annotations

import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning
import numpy as np
import pytest
import torch
from curves import read_curve
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from vmil.config.load import load_config
from vmil.config.schema import Config, TrainingConfig
from vmil.learner.module import ImitationModule
from vmil.learner.portable_evaluation import PortableEvaluation
from vmil.learner.stepping import Part
from vmil.tracking.curves import read_points
from vmil.tracking.record import read_record
from vmil.tracking.tracker import CsvTracker
from vmil.training.callbacks import make_callbacks
from vmil.training.checkpoint import Checkpoint
from vmil.training.evaluate import Evaluate
from vmil.training.flush import TrackingFlush, Watchdog
from vmil.training.progress import Progress, start_logging
from vmil.training.stopping import finishing

pytestmark = pytest.mark.filterwarnings("ignore")

PRETRAIN, UPDATES, PER_EPOCH, FRAMES = 2, 3, 10, 40


class TinyEnv(EnvBase):
    """Three steps; the reward is the action, the pixels are grey."""

    def __init__(self, seed: int) -> None:
        super().__init__(batch_size=[])
        self.observation_spec = Composite(image=Bounded(0, 255, (8, 8, 3), dtype=torch.uint8))
        self.action_spec = Bounded(-1, 1, (1,))
        self.reward_spec = Unbounded((1,))
        flag = Categorical(2, (1,), dtype=torch.bool)
        self.done_spec = Composite(done=flag, terminated=flag.clone())

    def _state(self) -> dict[str, Tensor]:
        done = torch.tensor([self.t == 3])
        return {"image": torch.full((8, 8, 3), 128, dtype=torch.uint8), "done": done, "terminated": done.clone()}

    def _reset(self, tensordict: TensorDictBase | None = None, **kwargs: object) -> TensorDictBase:
        self.t = 0
        return TensorDict(self._state(), [])

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        self.t += 1
        return TensorDict({**self._state(), "reward": tensordict["action"]}, [])

    def _set_seed(self, seed: int | None) -> None:
        pass


class Rounds(IterableDataset[Tensor]):
    def __init__(self, data: TinyData) -> None:
        self.data = data

    def __len__(self) -> int:
        return PRETRAIN if self.data.frames == 0 and self.data.owed else UPDATES

    def __iter__(self) -> Iterator[Tensor]:
        data = self.data
        if data.owed == 0:
            data.frames, data.owed = data.frames + PER_EPOCH, UPDATES
        while data.owed:
            data.owed -= 1
            yield torch.randn(1, generator=data.generator)


class TinyDemos:
    mean_return = 30.0


class TinyData(lightning.LightningDataModule):
    """Collects 10 frames a round; its batches are random numbers of its own generator."""

    def __init__(self) -> None:
        super().__init__()
        self.frames, self.owed = 0, PRETRAIN
        self.generator = torch.Generator().manual_seed(0)
        self.demos = TinyDemos()
        self.on_collect: Any = None
        self.fail: Exception | None = None
        self.committed: list[int] = []

    @property
    def metrics(self) -> dict[str, float]:
        return {"replay/frames": float(self.frames)}

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Rounds(self), batch_size=None, generator=torch.Generator())

    def peek(self) -> Tensor:
        return torch.zeros(1)

    def commit(self) -> None:
        self.committed.append(self.frames)

    def state_dict(self) -> dict[str, Any]:
        if self.fail is not None:
            raise self.fail
        return {"frames": self.frames, "owed": self.owed, "generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.frames, self.owed = state_dict["frames"], state_dict["owed"]
        self.generator.set_state(state_dict["generator"])


class Constant(PortableEvaluation):
    """Always the same action."""

    def __init__(self, action: float) -> None:
        super().__init__(torch.nn.Identity())
        self.register_buffer("action", torch.tensor(action))

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        return self.action.expand(len(image), 1)

    def judge(self, rollout: Any) -> dict[str, float]:
        return {"eval/reward_correlation": 0.25}


class TinyLearner(ImitationModule):
    """One weight, three optimisers, noise from the global generator; `seen` are the losses of its updates."""

    def __init__(self) -> None:
        super().__init__(Config())
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(torch.ones(1)) for _ in range(3)])
        self.seen: list[float] = []
        self.action = 5.0
        self.asked: list[str] = []

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {str(number): torch.optim.Adam([weight], lr=0.1) for number, weight in enumerate(self.weights)}

    def learn(self, batch: Any) -> None:
        for number, weight in enumerate(self.weights):
            loss = (weight * batch + torch.randn(1)).square().sum()
            self.step(str(number), loss, [Part("all", self)])
        self.seen.append(round(float(loss.detach()), 6))

    def drain_metrics(self) -> dict[str, float]:
        return {"model/loss": self.seen[-1]}

    def exploration_policy(self) -> Any:
        raise AssertionError("the tiny data needs nobody to act")

    def evaluation_policy(self) -> Any:
        raise AssertionError("a copy of it is evaluated")

    def portable_evaluation(self) -> PortableEvaluation:
        torch.randn(3)  # an evaluation that draws from the global generators must not be noticed
        np.random.rand()
        return Constant(self.action)

    def reward_histogram(self) -> np.ndarray:
        return np.arange(3.0)

    def open_loop_pictures(self, batch: Any) -> tuple[np.ndarray, np.ndarray]:
        self.asked.append("open loop")
        return np.zeros((40, 4, 8, 8, 3), np.uint8), np.ones((40, 4, 8, 8, 3), np.uint8)


class Trap(Callback):
    """Does something to the trainer at a chosen update."""

    def __init__(self, update: int, action: Any) -> None:
        self.update, self.action, self.count = update, action, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self.count += 1
        if self.count == self.update:
            self.action(trainer)


def small_config(**changes: Any) -> Config:
    settings: dict[str, Any] = {
        "frames": FRAMES,
        "frames_per_epoch": PER_EPOCH,
        "updates_per_epoch": UPDATES,
        "pretrain_updates": PRETRAIN,
        "eval_every_frames": 20,
        "eval_episodes": 2,
        "image_log_every_frames": 40,
        "checkpoint_every_frames": 20,
    }
    return Config(training=TrainingConfig(**{**settings, **changes}))


class Run:
    """One process's worth of training in `run_dir`."""

    def __init__(self, run_dir: Path, trap: Callback | None = None, **changes: Any) -> None:
        self.config = small_config(**changes)
        self.tracker = CsvTracker(run_dir)
        self.learner, self.data = TinyLearner(), TinyData()
        self.callbacks = make_callbacks(self.config, self.tracker, run_dir, TinyEnv, fps=20.0)
        self.trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=1 + FRAMES // PER_EPOCH,
            reload_dataloaders_every_n_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=self.callbacks + ([trap] if trap else []),
        )

    def fit(self, resume: Path | None = None) -> Run:
        torch.manual_seed(7 if resume is None else 99)
        with finishing(self.tracker):
            self.trainer.fit(self.learner, datamodule=self.data, ckpt_path=resume, weights_only=True)
        return self

    def find(self, kind: type) -> Any:
        return next(callback for callback in self.callbacks if isinstance(callback, kind))


def kill(trainer: Any) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupt(trainer: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def break_down(trainer: Any) -> None:
    raise RuntimeError("broken")


def values(run_dir: Path) -> list[tuple[int, str, float]]:
    """What is reported, without what depends on the clock."""
    timed = ("rate/", "run/", "system/", "eval/seconds")
    return [(p.frames, p.name, p.value) for p in read_points(run_dir) if not p.name.startswith(timed)]


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
        return Constant(5.0)

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


def test_the_progress_line_says_frames_speed_time_left_and_evaluation(tmp_path: Path, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "vmil.training"):
        run = Run(tmp_path).fit()
    lines = [record.message for record in caplog.records if record.name.endswith("progress")]
    assert lines[0].startswith("pre-training 2/2 updates · ")
    assert lines[1].startswith("10/40 frames · ")
    assert "updates/s · 0 min left" in lines[1]
    assert lines[-1].endswith("evaluation 15 at 40")
    progress: Progress = run.find(Progress)
    progress._in_round = 1
    assert progress._remaining(20) == 2 * UPDATES + 2
    assert progress.text(0).startswith("0/40 frames")  # while the first episodes are played
    progress._pretraining = True
    assert progress._remaining(0) == 4 * UPDATES + 1


@pytest.mark.parametrize(("episode_frames", "said"), [(0, "collected 7"), (4, "collected 7 in 4 frames at most")])
def test_what_was_collected_is_compared_with_whole_episodes_only_if_it_is_one(
    tmp_path: Path, episode_frames: int, said: str
) -> None:
    run = Run(tmp_path, episode_frames=episode_frames).fit()
    run.find(TrackingFlush).latest["collect/return"] = 7.0
    assert said in run.find(Progress).text(10).split(" · ")


def test_on_a_terminal_there_is_a_bar_that_also_moves_while_episodes_are_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    run.find(Progress)._wants_bar = True
    run.fit()
    assert run.data.on_collect is not None
    last = capsys.readouterr().err.split("\r")[-1]
    assert last.startswith("100%|")
    assert "| 40/40 frames · " in last
    assert "evaluation 15 at 40" in last


def test_messages_go_to_the_log_file_and_progress_once_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("vmil")
    before = (logger.handlers[:], logger.level, logger.propagate)
    try:
        start_logging(tmp_path)
        start_logging(tmp_path)  # a second run in one process must not say everything twice
        logging.getLogger("vmil.training.progress").info("10/40 frames")
        logging.getLogger("vmil.data").debug("too much detail")
        for handler in logger.handlers:
            handler.flush()
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert capsys.readouterr().err == "10/40 frames\n"
    assert (tmp_path / "run.log").read_text().endswith(" INFO 10/40 frames\n")


class ClosedTerminal(io.StringIO):
    """What a terminal is to a process that outlives it."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_a_closed_terminal_and_a_full_disk_do_not_keep_a_stopped_run_from_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("vmil")
    before = (logger.handlers[:], logger.level, logger.propagate)
    monkeypatch.setattr(sys, "stderr", ClosedTerminal())
    run = Run(tmp_path, Trap(PRETRAIN + 1, interrupt))
    try:
        start_logging(tmp_path)
        file = next(handler for handler in logger.handlers if isinstance(handler, logging.FileHandler))
        monkeypatch.setattr(file, "stream", ClosedTerminal())
        with pytest.raises(SIGTERMException):  # after a warning, that it stops
            run.fit()
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    assert torch.load(run.find(Checkpoint).last_path, weights_only=True)["TinyData"]["owed"] == UPDATES - 1


def test_the_watchdog_barks_once_per_metric_and_only_at_lasting_trouble(caplog: pytest.LogCaptureFixture) -> None:
    tags: dict[str, str] = {}
    tracker = cast(Any, SimpleNamespace(tags=tags.update))
    watchdog = Watchdog(load_config(["env=counting", "training.frames_per_epoch=100"]), tracker, patience=2)
    said = []
    with caplog.at_level(logging.WARNING, "vmil"):
        for frames, accuracy in zip(range(300, 800, 100), [1.0, 0.7, 1.0, 1.0, 1.0], strict=True):
            readings = {"disc/accuracy": accuracy, "disc/dream_accuracy": accuracy, "disc/replay_accuracy": 0.7}
            said.append(watchdog(readings, frames))
        watchdog({"model/loss": float("nan")}, 900)
    assert [record.message.split(" is ")[0] for record in caplog.records] == [
        "after 600 frames disc/accuracy = 1",
        "after 600 frames health/filter_gap = 0.3",
        "after 900 frames model/loss",
    ]
    assert set(tags) == {"health.D_saturated", "health.D_tells_filter_from_dream", "health.not_a_number"}
    assert tags["health.not_a_number"].startswith("after 900 frames model/loss is nan")
    assert said[0] == {"health/filter_gap": pytest.approx(0.3), "health/warnings": 2.0}
    assert said[1] == {"health/filter_gap": 0.0, "health/warnings": 0.0}


def test_the_watchdog_does_not_forget_over_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    tracker = cast(Any, SimpleNamespace(tags=lambda _: None, state_dict=dict, load_state_dict=lambda _: None))
    config = load_config(["env=counting", "training.frames_per_epoch=100"])
    first, second, third = (TrackingFlush(tracker, Watchdog(config, tracker, patience=3)) for _ in range(3))
    ill, well = {"disc/accuracy": 1.0}, {"disc/accuracy": 0.7}
    with caplog.at_level(logging.WARNING, "vmil"):
        first._watchdog(ill, 300), first._watchdog(ill, 400)
        second.load_state_dict(first.state_dict())
        second._watchdog(ill, 500)  # the third in a row: two are the first's
        third.load_state_dict(second.state_dict())
        for frames in range(600, 1000, 100):  # said before
            third._watchdog(ill, frames)
    assert [record.message.split(" is ")[0] for record in caplog.records] == ["after 500 frames disc/accuracy = 1"]
    third._watchdog(well, 1000)
    assert third.state_dict()["watchdog"] == {"sick": {}, "warned": ["disc/accuracy"]}
    third.load_state_dict({})  # a checkpoint from before this was kept
    assert third.state_dict()["watchdog"] == {"sick": {}, "warned": []}


def test_a_checkpoint_keeps_what_the_watchdog_knows(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.find(TrackingFlush)._watchdog._sick["model/kl"] = 2
    run.find(TrackingFlush)._watchdog._warned.add("model/kl")
    run.fit()
    path = tmp_path / "checkpoints" / "last.ckpt"
    [state] = [s for s in torch.load(path, weights_only=True)["callbacks"].values() if "watchdog" in s]
    assert state["watchdog"] == {"sick": {"model/kl": 2}, "warned": ["model/kl"]}
    assert state["csv_bytes"] > 0
    resumed = Run(tmp_path).fit(resume=path)
    assert resumed.find(TrackingFlush)._watchdog.state_dict() == state["watchdog"]


def test_numbers_go_first_and_the_checkpoint_last(tmp_path: Path) -> None:
    kinds = [type(callback) for callback in Run(tmp_path, Trap(0, None)).trainer.callbacks]
    assert kinds.index(TrackingFlush) < kinds.index(Evaluate) < kinds.index(Progress) < kinds.index(Checkpoint)
    assert kinds[-1] is Checkpoint
