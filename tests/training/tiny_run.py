"""Training in a second: one weight, an environment of three steps, and what stops or breaks it on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from vmil.config.runs import CONFIG_FILE
from vmil.config.schema import Config, EnvConfig, TrainingConfig
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.learner.module import ImitationModule
from vmil.learner.portable_evaluation import PortableEvaluation
from vmil.learner.stepping import Part
from vmil.tracking.curves import read_points
from vmil.tracking.tracker import CsvTracker
from vmil.training.callbacks import make_callbacks
from vmil.training.stopping import finishing

PRETRAIN, UPDATES, PER_EPOCH, FRAMES = 2, 3, 10, 40


class TinyEnv(CountingEnv):
    """Three steps; the reward is ten times the action."""

    def __init__(self, seed: int) -> None:
        super().__init__(EnvConfig(name="counting", image_size=8, action_repeat=1, episode_frames=3), seed)

    def _advance(self, action: np.ndarray) -> Outcome:
        return Outcome(10.0 * float(action[0]), terminated=False)


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
        self.let_go_at: list[int] = []

    @property
    def metrics(self) -> dict[str, float]:
        return {"replay/frames": float(self.frames)}

    @property
    def updates_left(self) -> int:
        return self.owed + (FRAMES - self.frames) // PER_EPOCH * UPDATES

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Rounds(self), batch_size=None, generator=torch.Generator())

    def peek(self) -> Tensor:
        return torch.zeros(1)

    def let_go(self) -> None:
        self.let_go_at.append(self.frames)

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
        self.action = 0.5
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
        (run_dir / CONFIG_FILE).touch()
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
