"""Evaluation during training: the score, a film, and what the model and the discriminator think."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from torchrl.envs import EnvBase

from vmil.config.schema import ScoreName, TrainingConfig
from vmil.evaluation.rollout import Rollout, evaluate
from vmil.evaluation.scores import Score, score
from vmil.learner.interfaces import answer, crossed, data_of, learner_of
from vmil.tracking.pictures import open_loop_panel
from vmil.tracking.tracker import Tracker

log = logging.getLogger(__name__)

PANEL_COLUMNS = 16  # time steps of an open-loop panel, at most


class _Stopped(Exception):
    """The run is asked to end: the evaluation can be made up for after a resume, a lost checkpoint cannot."""


class Evaluate(Callback):
    """Evaluates every `eval_every_frames`, at the end, and before the first frame if `eval_at_start`.

    Training does not notice: global random states are put back, the replay is not touched. An evaluation that a stopped
    run left out is made up for when it is resumed.
    """

    def __init__(
        self,
        config: TrainingConfig,
        tracker: Tracker,
        make_env: Callable[[int], EnvBase],
        seed: int,
        fps: float = 20.0,
        headline: ScoreName = "return",
        watch: Callable[[dict[str, float], int], object] = lambda values, frames: None,
    ) -> None:
        self.config, self.tracker, self.make_env, self.seed, self.fps = config, tracker, make_env, seed, fps
        self.headline: ScoreName = headline
        self.watch = watch  # looks at the numbers of every evaluation
        self.last: Score | None = None
        self.last_frames = -1  # frames at the last evaluation
        self._pictured_frames = -1
        self._batch: Any = None
        self._in_round = False  # its evaluation, if one is due, comes at its end

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Makes up for an evaluation that was due when the run was stopped; or the first, if nothing is pre-trained."""
        frames = data_of(trainer).frames
        if self._in_round:
            return
        if frames > 0 or (self.config.eval_at_start and self.config.pretrain_updates == 0):
            self._evaluate_if_due(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A round begins."""
        self._in_round = True

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the batch for pictures: drawing another one would advance the sampler's random state."""
        self._batch = batch

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Evaluates if it is time."""
        self._in_round = False
        self._evaluate_if_due(trainer, pl_module)
        self._batch = None

    def due(self, frames: int) -> bool:
        """Whether an evaluation is to be made at that moment."""
        if frames == 0:
            return self.config.eval_at_start and self.last_frames < 0
        at_end = frames >= self.config.frames and self.last_frames < frames
        return at_end or crossed(max(self.last_frames, 0), frames, self.config.eval_every_frames)

    def state_dict(self) -> dict[str, Any]:
        """When the last evaluation and the last pictures were made, the last returns' summary, whether a round runs."""
        return {
            "last_frames": self.last_frames,
            "pictured_frames": self._pictured_frames,
            "last": None if self.last is None else dict(vars(self.last)),
            "in_round": self._in_round,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it back."""
        self.last_frames, self._pictured_frames = state_dict["last_frames"], state_dict["pictured_frames"]
        self.last = None if state_dict["last"] is None else Score(**state_dict["last"])
        self._in_round = state_dict.get("in_round", False)

    def _evaluate_if_due(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        frames = data_of(trainer).frames
        if not self.due(frames) or trainer.received_sigterm or not trainer.is_global_zero:
            return
        with isolate_rng():
            torch.manual_seed(self.seed)
            try:
                self._evaluate(trainer, pl_module, frames)
            except _Stopped:
                log.info("evaluation at %d frames broken off: the run is stopping", frames)
                return
        self.last_frames = frames

    def _evaluate(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, frames: int) -> None:
        def stop_if_asked(_: int) -> None:
            if trainer.received_sigterm:
                raise _Stopped

        pictures = self._pictured_frames < 0 or crossed(
            self._pictured_frames, frames, self.config.image_log_every_frames
        )
        policy = learner_of(pl_module).evaluation_policy()
        episodes = self.config.eval_episodes
        rollout = evaluate(policy, self.make_env, episodes, self.seed, video=pictures, on_step=stop_if_asked)
        demos = data_of(trainer).demos
        expert = None if demos is None else demos.mean_return
        self.last = score(rollout.returns, expert, rollout.scores, self.headline)
        values = self._metrics(rollout, pl_module)
        self.tracker.metrics(values, frames)
        self.watch(values, frames)
        log.info("evaluation after %d frames: %s", frames, self.last)
        if pictures:
            self._log_pictures(rollout, trainer, pl_module, frames)
            self._pictured_frames = frames

    def _metrics(self, rollout: Rollout, pl_module: lightning.LightningModule) -> dict[str, float]:
        assert self.last is not None
        values = {
            "eval/return": self.last.mean,
            "eval/return_std": self.last.std,
            "eval/episodes": float(self.last.episodes),
            "eval/seconds": rollout.seconds,
            **{f"eval/{name}": value for name, value in self.last.extras.items()},
        }
        if self.last.normalised is not None:
            values["eval/normalised"] = self.last.normalised
        extra: dict[str, float] | None = answer(pl_module, "evaluation_metrics", rollout)
        return values | (extra or {})

    def _log_pictures(
        self, rollout: Rollout, trainer: lightning.Trainer, pl_module: lightning.LightningModule, frames: int
    ) -> None:
        if rollout.video is not None:
            self.tracker.video("eval/episode", rollout.video, frames, self.fps)
        rewards = answer(pl_module, "reward_histogram")
        if rewards is not None:
            self.tracker.histogram("reward/histogram", rewards, frames)
        batch = answer(data_of(trainer), "peek") if self._batch is None else self._batch  # none yet after a resume
        pictures = None if batch is None else answer(pl_module, "open_loop_pictures", batch)
        if pictures is not None:
            truth, model = pictures  # (T, B, H, W, 3): the first column is the expert's, the last the agent's
            columns = [0, -1] if truth.shape[1] > 1 else [0]
            stride = -(-len(truth) // PANEL_COLUMNS)
            self.tracker.image("model/open_loop", open_loop_panel(truth[:, columns], model[:, columns], stride), frames)
