"""A run from start to end: checks, assembly, training, resuming, evaluating."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vmil.config.errors import NonFiniteError, StoppedError, UserError
from vmil.config.learners import collects
from vmil.config.load import flatten, load_saved_config, save_config
from vmil.config.runs import CONFIG_FILE
from vmil.config.schema import Config
from vmil.data.collect import Policy
from vmil.data.datamodule import VMILDataModule
from vmil.data.demos import find_demos, mean_return
from vmil.data.ranks import rank_of, started_outside
from vmil.data.recording import read_recording
from vmil.envs.factory import env_info, make_env
from vmil.envs.rendering import prepare_rendering
from vmil.evaluation.rollout import evaluate
from vmil.evaluation.scores import Score, score
from vmil.learner.device import choose_device, choose_threads, use_bf16
from vmil.learner.module import ImitationModule
from vmil.tracking.pictures import write_video
from vmil.tracking.tracker import NullTracker, Tracker, make_tracker
from vmil.training.allocator import keep_memory
from vmil.training.callbacks import finishing, make_callbacks
from vmil.training.checkpoint import LAST, REPLAY, Checkpoint
from vmil.training.evidence import keep_evidence, report_skip
from vmil.training.progress import start_logging
from vmil.training.requeue import requeue, requeueing, was_requeued
from vmil.training.restore import read_checkpoint as read_checkpoint
from vmil.training.restore import try_on
from vmil.training.rundir import (
    RUN_DIR,
    clear_half_written,
    git_commit,
    has_checkpoint,
    joined_run,
    locked,
    new_run,
    require_disk,
)
from vmil.training.stopping import stoppable
from vmil.training.together import placement

log = logging.getLogger(__name__)

# From configuration, action size and size of the vector observation (0: none) to what learns. Which algorithms there
# are is known above, in `vmil.algorithms`: here all are run alike.
LearnerFactory: TypeAlias = Callable[[Config, int, int], ImitationModule]


def train(config: Config, make_learner: LearnerFactory) -> Path:
    """Trains from the start; gives the run's directory.

    Raises:
        UserError: something that a person can mend, found before training starts where it can be.
        StoppedError: a signal asked it to end; it can be resumed.
    """
    prepare_rendering(config.env)
    rank = rank_of(config)
    if rank.count > 1 and started_outside(os.environ) and config.run.name is None:
        raise UserError("ranks that torchrun or srun starts need a run.name to meet under")
    if rank.index > 0:
        run_dir = joined_run(config)
        again = was_requeued(os.environ) and has_checkpoint(run_dir)
        return _join(config, make_learner, run_dir, run_dir / "checkpoints" / LAST if again else None)
    if config.run.name is not None and was_requeued(os.environ) and has_checkpoint(joined_run(config)):
        return resume(joined_run(config), make_learner)
    with new_run(config) as run_dir:
        start_logging(run_dir)
        _fit(config, make_learner, run_dir, None)
    return run_dir


def _join(config: Config, make_learner: LearnerFactory, run_dir: Path, checkpoint: Path | None) -> Path:
    """What the first rank's run is to the others: they write no more than their replay, and say no more than errors."""
    logging.getLogger("vmil").setLevel(logging.ERROR)
    with suppress(StoppedError):  # Lightning kills the first rank, which is still busy, if another one fails
        _fit(config, make_learner, run_dir, checkpoint)
    return run_dir


def resume(run_dir: Path, make_learner: LearnerFactory, overrides: Sequence[str] = ()) -> Path:
    """Goes on exactly where the run's last checkpoint was made; `overrides` may raise its budget, for instance.

    Raises:
        UserError: the run is in use, has no checkpoint, or its checkpoint does not fit the configuration.
        StoppedError: a signal asked it to end; it can be resumed again.
    """
    config = load_saved_config(run_dir / CONFIG_FILE, overrides)
    if rank_of(config).index > 0:
        prepare_rendering(config.env)
        return _join(config, make_learner, run_dir, run_dir / "checkpoints" / LAST)
    with locked(run_dir):
        if not has_checkpoint(run_dir):
            raise UserError(f"'{run_dir}' was stopped before its first checkpoint: start again with `make train`")
        prepare_rendering(config.env)
        clear_half_written(run_dir)
        start_logging(run_dir)
        _fit(config, make_learner, run_dir, run_dir / "checkpoints" / LAST)
    return run_dir


def evaluate_run(run_dir: Path, make_learner: LearnerFactory, episodes: int, video: Path | None) -> Score:
    """Plays `episodes` deterministic episodes with the run's last checkpoint, prints the score, films the first.

    Raises:
        UserError: no checkpoint, or one that does not fit the run's configuration.
    """
    config = load_saved_config(run_dir / CONFIG_FILE)
    prepare_rendering(config.env)
    prepare_torch(config)
    learner, _ = trained_learner(run_dir, config, make_learner)
    return play(run_dir.name, learner.evaluation_policy(), config, expert_return(config), episodes, video)


def trained_learner(
    run_dir: Path, config: Config, make_learner: LearnerFactory
) -> tuple[ImitationModule, dict[str, Any]]:
    """What the run's last checkpoint holds, ready to act, and that checkpoint's content; UserError as above."""
    info = env_info(config.env)
    learner = make_learner(config, info.action_size, info.proprio_size)
    content = read_checkpoint(run_dir / "checkpoints" / LAST, learner)
    learner.load_state_dict(content["state_dict"])
    return learner.to(choose_device(config)).eval(), content


def play(name: str, policy: Policy, config: Config, expert: float | None, episodes: int, video: Path | None) -> Score:
    """Plays the policy, prints its score beside its name and the expert's mean return, films its first episode."""
    torch.manual_seed(config.seed)  # as in the evaluations during training
    rollout = evaluate(policy, partial(make_env, config.env), episodes, config.seed, video=video is not None)
    result = score(rollout.returns, expert, rollout.scores, config.env.score)
    print(f"{name}: {result}")
    if video is not None and rollout.video is not None:
        try:
            write_video(video, rollout.video, fps=frames_per_second(config))
        except OSError as error:
            raise UserError(f"the video '{video}' cannot be written: {error.strerror or error}") from error
        print(f"video: {video}")
    return result


def prepare_torch(config: Config) -> None:
    """Threads, allocator and determinism of this process."""
    keep_memory()
    torch.set_num_threads(choose_threads(config))
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(config.debug.deterministic, warn_only=True)


def frames_per_second(config: Config) -> float:
    """Speed of a video with one picture per agent step, for 40 frames a second: walker's real time."""
    return 40.0 / config.env.action_repeat


@dataclass(frozen=True)
class Parts:
    """What a run is made of."""

    learner: ImitationModule
    data: VMILDataModule
    tracker: Tracker
    trainer: lightning.Trainer


def assemble(config: Config, make_learner: LearnerFactory, run_dir: Path, checkpoint: Path | None = None) -> Parts:
    """Builds the learner, its data, the tracker and Lightning's trainer; UserError if the checkpoint does not fit.

    What cannot be done is found before the tracker hears of the run: a finished one that is refused stays finished.
    """
    prepare_torch(config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    rank = rank_of(config)
    data = VMILDataModule(config, replay_dir=run_dir / "checkpoints" / REPLAY, rank=rank)
    try:
        learner = make_learner(config, data.info.action_size, data.info.proprio_size)
        learner.guard.on_skip = partial(report_skip, run_dir)
        if checkpoint is not None:
            read_checkpoint(checkpoint, learner)  # before anything is rendered
        if rank.index == 0:
            _introduce(config, run_dir, data)
        data.setup("fit")
        data.set_policy(learner.exploration_policy())
        if checkpoint is not None:
            try_on(checkpoint, learner, data)
        tracker = make_tracker(config.tracking, run_dir) if rank.index == 0 else NullTracker()
    except BaseException:
        data.close()
        raise
    # Overrides are kept only once training goes on with them: those that do not fit must not spoil the run.
    keeper = LambdaCallback(on_train_start=lambda *_: None if rank.index else _keep_config(config, run_dir, tracker))
    callbacks = make_callbacks(config, tracker, run_dir, partial(make_env, config.env), frames_per_second(config))
    trainer = lightning.Trainer(
        **placement(config, choose_device(config)),
        max_epochs=data.epochs,
        callbacks=[keeper, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=run_dir,
    )
    return Parts(learner, data, tracker, trainer)


def _fit(config: Config, make_learner: LearnerFactory, run_dir: Path, checkpoint: Path | None) -> None:
    _quieten()
    if rank_of(config).count > 1:
        os.environ[RUN_DIR] = str(run_dir)  # for the ranks that Lightning starts, with this command
    with stoppable(), requeueing() as wish:
        parts = assemble(config, make_learner, run_dir, checkpoint)
        try:
            with finishing(parts.tracker):
                _train(config, parts, checkpoint)
        except SIGTERMException as error:
            if wish.asked and parts.trainer.is_global_zero:
                requeue()
            raise StoppedError(_parting(parts.trainer, run_dir)) from error
        except SystemExit as error:  # what Lightning makes of a second Ctrl-C
            raise KeyboardInterrupt from error
        except NonFiniteError as error:
            kept = keep_evidence(run_dir, error)
            where = "" if kept is None else f"; kept as '{kept}'"
            raise NonFiniteError(f"{error}{where}; `make resume` goes on from the last checkpoint") from error
    log.info("done: `make evaluate RUN=%s` scores and films it, `make ui` shows its curves", run_dir)


def _train(config: Config, parts: Parts, checkpoint: Path | None) -> None:
    if checkpoint is None:
        parts.tracker.params(flatten(config))
    tags = {"commit": git_commit(), "demos": parts.data.digest, "algo": config.algo, "env": config.env.name}
    parts.tracker.tags(tags)
    parts.trainer.fit(parts.learner, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
    if not _saved(parts.trainer):
        raise UserError(
            "trained to the end, but its last checkpoint could not be written: make room, then `make resume`"
        )


def _saved(trainer: lightning.Trainer) -> bool:
    """Whether the last checkpoint that was asked for is there."""
    return all(callback.complete for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint))


def _parting(trainer: lightning.Trainer, run_dir: Path) -> str:
    """Where a run that was stopped goes on."""
    if _saved(trainer):
        return f"stopped; `make resume RUN={run_dir}` goes on from here"
    if has_checkpoint(run_dir):
        return f"stopped without a new checkpoint; `make resume RUN={run_dir}` goes on from the last one"
    return "stopped, and no checkpoint could be written: start again with `make train`"


def _introduce(config: Config, run_dir: Path, data: VMILDataModule) -> None:
    """Says what is about to run, on what, and what it will take."""
    size, device = data.footprint, choose_device(config)
    free = require_disk(run_dir, size.checkpoint_bytes)
    log.info("run: %s", run_dir)
    log.info(
        "%s on %s: %s frames, seed %d; device %s, %d threads, convolutions in %s",
        config.algo,
        config.env.name,
        f"{config.training.frames:,}",
        config.seed,
        device,
        torch.get_num_threads(),
        "bf16" if use_bf16(config, device) else "fp32",
    )
    log.info(
        "memory: replay up to %.1f GB, demonstrations %.2f GB, networks about 1.5 GB; "
        "disk: up to %.1f GB of %.0f GB free",
        size.replay_bytes / 1e9,
        size.demo_bytes / 1e9,
        size.checkpoint_bytes / 1e9,
        free / 1e9,
    )
    if collects(config) and config.collector.workers > 1:
        log.info("episodes are played %d at a time: %s", config.collector.workers, config.collector.backend)
    if config.debug.use_ground_truth_reward:
        log.warning(
            "NOT IMITATION: debug.use_ground_truth_reward puts the environment's reward in the discriminator's place"
        )


def _keep_config(config: Config, run_dir: Path, tracker: Tracker) -> None:
    save_config(config, run_dir / CONFIG_FILE)
    tracker.artifact(run_dir / CONFIG_FILE)


def expert_return(config: Config) -> float | None:
    """Mean return of the demonstrations; None if it or they are unknown, which costs the normalised score only."""
    try:
        recordings = [read_recording(path) for path in find_demos(config.env.name, config.demos, config.seed)]
    except UserError as error:
        log.warning("no normalised score: %s", error)
        return None
    return mean_return(recordings)


def _quieten() -> None:
    """Lightning's advice that does not apply to a manual loop over an endless data set."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
