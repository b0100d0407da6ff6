"""The callbacks of every run, in the order in which they must be called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.callbacks import Callback

from vmil.config.runs import CHECKPOINTS
from vmil.config.schema import Config
from vmil.data.ranks import rank_of
from vmil.envs.episodes import EpisodicEnv
from vmil.envs.tasks import is_single
from vmil.evaluation.background import BackgroundEvaluator
from vmil.learner.device import evaluates_in_background
from vmil.tracking.tracker import Tracker
from vmil.training.checkpoint import Checkpoint
from vmil.training.evaluate import Evaluate
from vmil.training.flush import TrackingFlush, Watchdog
from vmil.training.progress import Progress
from vmil.training.reporter import Reporter
from vmil.training.stopping import GracefulStop
from vmil.training.together import StopTogether


def make_callbacks(
    config: Config, tracker: Tracker, run_dir: Path, make_env: Callable[[int], EpisodicEnv], fps: float
) -> list[Callback]:
    """Stopping, tracking, evaluation, progress, checkpoints: numbers first, then what reads them, then what saves all.

    `make_env` makes an evaluation environment from a seed; `fps` is the speed of videos, agent steps per second. Of
    several ranks, only the first evaluates and shows progress.
    """
    rank = rank_of(config)
    watchdog = Watchdog(config, tracker)
    flush = TrackingFlush(tracker, watchdog)
    checkpoint = Checkpoint(config.training, tracker, run_dir / CHECKPOINTS)
    stop = GracefulStop() if rank.count == 1 else StopTogether()
    if rank.index > 0:
        return [stop, flush, checkpoint]
    background = BackgroundEvaluator(config.collector.timeout) if evaluates_in_background(config) else None
    reporter = Reporter(tracker, config.training.image_log_every_frames, fps, config.env.score, watchdog)
    evaluate = Evaluate(config.training, reporter, make_env, config.seed, background, is_single(config.env.name))
    progress = Progress(config, flush, reporter)
    return [stop, flush, evaluate, progress, checkpoint]
