"""Evaluation during training: when, in which process, and how a run that is stopped within one loses nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from vmil.config.schema import TrainingConfig
from vmil.envs.episodes import EpisodicEnv
from vmil.errors import EnvError
from vmil.evaluation.background import BackgroundEvaluator, Evaluation
from vmil.evaluation.rollout import SIDE_BY_SIDE, Rollout
from vmil.learner.portable_evaluation import PortableEvaluation
from vmil.system.generators import isolated_generators
from vmil.training.interfaces import crossed, data_of, learner_of
from vmil.training.reporter import Reporter

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.2  # seconds between two checks for a request to stop


class _Stopped(Exception):
    """The run is asked to end: the evaluation can be made up for after a resume, a lost checkpoint cannot."""


@dataclass
class _Pending:
    """An evaluation that is to be made: of which frames, whether it is filmed, and what is examined."""

    frames: int
    film: bool
    examination: PortableEvaluation


class Evaluate(Callback):
    """Evaluates every `eval_every_frames`, at the end, and before the first frame if `eval_at_start`.

    Training does not notice: global random states are restored, the replay is not touched. An evaluation that a stopped
    run left out is made up for when it is resumed. With `background` all but the last are made while training goes on,
    one at a time; of one that is under way, checkpoints hold what it needs to be made again. If the environment is a
    `single` one, the one that collects is closed before, and episodes are played one after another.
    """

    def __init__(
        self,
        config: TrainingConfig,
        reporter: Reporter,
        make_env: Callable[[int], EpisodicEnv],
        seed: int,
        background: BackgroundEvaluator | None = None,
        single: bool = False,
    ) -> None:
        self.config, self.reporter, self.make_env, self.seed = config, reporter, make_env, seed
        self.last_frames = -1  # frames at the last evaluation that was begun
        self._background, self._single = background, single
        self._pending: _Pending | None = None
        self._left_over: dict[str, Any] | None = None  # what was pending in the checkpoint that is resumed
        self._failed: EnvError | None = None  # in the background, within a round
        self._in_round = False  # its evaluation, if one is due, comes at its end

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Makes up for what a run lacks whose budget is spent: Lightning does not train, and calls no later hook.

        The checkpoint still lacks it, and a second resume makes it again; a stop meanwhile leaves all as it was.
        """
        if data_of(trainer).frames >= self.config.frames and not self._in_round:
            self._take_up(trainer, pl_module)
            self._evaluate_if_due(trainer, pl_module)
            self._finish(trainer)
            self._close()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Makes up for an evaluation that was due when the run was stopped; or the first, if nothing is pre-trained."""
        frames = data_of(trainer).frames
        self._take_up(trainer, pl_module)
        if self._in_round:
            return
        if frames > 0 or trainer.current_epoch > 0 or self.config.pretrain_updates == 0:  # `due` knows of eval_at_start
            self._evaluate_if_due(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A round begins."""
        self._in_round = True

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reports an evaluation that has come to its end in the background; its failure ends the run at the round's."""
        waiting = self._pending is not None and self._failed is None
        if waiting and self._background is not None and self._background.wait():
            try:
                self._take(trainer, self._background)
            except _Stopped:
                pass
            except EnvError as error:
                self._failed = error

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Evaluates if it is time."""
        self._in_round = False
        if self._failed is not None:
            raise self._failed
        self._evaluate_if_due(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Ends the background process, which has nothing more to do."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Ends the background process, whatever it was doing."""
        self._close()

    def due(self, frames: int) -> bool:
        """Whether an evaluation is due at that moment."""
        if frames == 0:
            return self.config.eval_at_start and self.last_frames < 0
        at_end = frames >= self.config.frames and self.last_frames < frames
        return at_end or crossed(max(self.last_frames, 0), frames, self.config.eval_every_frames)

    def state_dict(self) -> dict[str, Any]:
        """When the last evaluation and the last pictures were made, the last returns' summary, whether a round runs."""
        return {
            **self.reporter.state_dict(),
            "last_frames": self.last_frames,
            "in_round": self._in_round,
            "pending": None if self._pending is None else self._pending_state(self._pending),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self.last_frames = state_dict["last_frames"]
        self.reporter.load_state_dict(state_dict)
        self._in_round, self._left_over = state_dict["in_round"], state_dict["pending"]

    def _evaluate_if_due(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        frames = data_of(trainer).frames
        if not self.due(frames) or trainer.received_sigterm or not trainer.is_global_zero:
            return
        with isolated_generators():
            torch.manual_seed(self.seed)
            try:
                self._finish(trainer)
                if self._background is None or frames >= self.config.frames:
                    self._evaluate(trainer, pl_module, frames)
                else:
                    self._begin(self._background, trainer, pl_module, frames)
            except _Stopped:
                log.info("evaluation at %d frames broken off: the run is stopping", frames)
                return
        self.last_frames = frames

    def _evaluate(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, frames: int) -> None:
        """Evaluates at once, in this process."""
        asked = self._asked(pl_module, frames)
        rollout, judged = self._run(trainer, asked)
        self.reporter.report(trainer, rollout, judged, frames)
        if asked.film:
            self._draw(trainer, pl_module, frames)

    # ---- in the background

    def _begin(
        self,
        background: BackgroundEvaluator,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        frames: int,
    ) -> None:
        self._pending = self._asked(pl_module, frames)
        background.start(self._evaluation(self._pending))
        if self._pending.film:
            self._draw(trainer, pl_module, frames)

    def _take_up(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Makes the evaluation again that was under way when the checkpoint was made."""
        if self._left_over is None:
            return
        state, self._left_over = self._left_over, None
        examination = learner_of(pl_module).portable_evaluation()
        try:
            examination.load_state_dict(state["examination"])
            self._pending = _Pending(int(state["frames"]), bool(state["film"]), examination)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            log.warning("the evaluation that was under way cannot be made again (%s)", error)
            return
        if self._background is not None:
            self._background.start(self._evaluation(self._pending))
            return
        with isolated_generators(), suppress(_Stopped):  # what is pending stays so
            rollout, judged = self._run(trainer, self._pending)
            frames, self._pending = self._pending.frames, None
            self.reporter.report(trainer, rollout, judged, frames)

    def _finish(self, trainer: lightning.Trainer) -> None:
        """Waits for what is pending, unless the run is asked to stop."""
        while self._pending is not None and self._background is not None:
            if self._background.wait(_LOOK_EVERY):
                self._take(trainer, self._background)
            elif trainer.received_sigterm:
                raise _Stopped

    def _take(self, trainer: lightning.Trainer, background: BackgroundEvaluator) -> None:
        assert self._pending is not None
        with isolated_generators():
            rollout, judged = background.take(_stopper(trainer))
        frames, self._pending = self._pending.frames, None
        self.reporter.report(trainer, rollout, judged, frames)

    def _asked(self, pl_module: lightning.LightningModule, frames: int) -> _Pending:
        return _Pending(frames, self.reporter.wants_pictures(frames), learner_of(pl_module).portable_evaluation())

    def _run(self, trainer: lightning.Trainer, pending: _Pending) -> tuple[Rollout, dict[str, float]]:
        if self._single:
            data_of(trainer).let_go()
        return self._evaluation(pending).run(_stopper(trainer))

    def _evaluation(self, pending: _Pending) -> Evaluation:
        count, at_once = self.config.eval_episodes, 1 if self._single else SIDE_BY_SIDE
        return Evaluation(pending.examination, self.make_env, count, self.seed, pending.film, at_once)

    def _pending_state(self, pending: _Pending) -> dict[str, Any]:
        return {
            "frames": pending.frames,
            "film": pending.film,
            "examination": dict(pending.examination.state_dict()),
        }

    def _close(self) -> None:
        if self._background is not None:
            self._background.close()

    def _draw(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, frames: int) -> None:
        self.reporter.draw(learner_of(pl_module), data_of(trainer).peek(), frames)


def _stopper(trainer: lightning.Trainer) -> Callable[[int], None]:
    """Breaks an evaluation off, by `_Stopped`, once the run is asked to end."""

    def stop_if_asked(_: int) -> None:
        if trainer.received_sigterm:
            raise _Stopped

    return stop_if_asked
