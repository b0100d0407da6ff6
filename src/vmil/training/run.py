"""A run from start to end: training, resuming, and how either may end."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import get_args

import lightning
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vmil.config.load import load_saved_config
from vmil.config.runs import CONFIG_FILE, last_checkpoint
from vmil.config.schema import Config
from vmil.data.demo_files import find_demos
from vmil.data.ranks import rank_of, started_outside
from vmil.envs.rendering import prepare_rendering
from vmil.errors import EnvError, NonFiniteError, StoppedError, UserError
from vmil.tracking.record import read_record
from vmil.tracking.tracker import RunStatus
from vmil.training.assembly import LearnerFactory, Parts, assemble
from vmil.training.checkpoint import Checkpoint
from vmil.training.evidence import keep_evidence
from vmil.training.progress import LOG_FILE, start_logging
from vmil.training.requeue import requeue, requeueing, was_requeued
from vmil.training.rundir import (
    RUN_DIR,
    BegunError,
    clear_half_written,
    has_checkpoint,
    joined_run,
    locked,
    new_run,
    refuse_to_overwrite,
    require_checkpoint,
)
from vmil.training.stopping import finishing, stoppable

log = logging.getLogger(__name__)


def train(config: Config, make_learner: LearnerFactory) -> Path:
    """Trains from the start; returns the run's directory.

    Raises:
        UserError: something that a person can fix, found before training starts where possible.
        StoppedError: a signal asked it to end; it can be resumed.
    """
    prepare_rendering(config.env)
    rank = rank_of(config)
    if rank.count > 1 and started_outside(os.environ) and config.run.name is None:
        raise UserError("ranks that torchrun or srun starts need a run.name to meet under")
    if rank.index > 0:
        run_dir = joined_run(config)
        again = was_requeued(os.environ) and has_checkpoint(run_dir)
        if not again:
            refuse_to_overwrite(run_dir)  # as the first rank does, which nobody else hears of
        return _join(config, make_learner, run_dir, last_checkpoint(run_dir) if again else None)
    if config.run.name is not None and was_requeued(os.environ) and has_checkpoint(joined_run(config)):
        return resume(joined_run(config), make_learner)
    with new_run(config) as run_dir:
        start_logging(run_dir)
        _fit(config, make_learner, run_dir, None)
    return run_dir


def _join(config: Config, make_learner: LearnerFactory, run_dir: Path, checkpoint: Path | None) -> Path:
    """The first rank's run for the others: they write nothing but their replay, and log nothing but errors."""
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
        return _join(config, make_learner, run_dir, last_checkpoint(run_dir))
    with locked(run_dir):
        require_checkpoint(run_dir)
        prepare_rendering(config.env)
        clear_half_written(run_dir)
        start_logging(run_dir)
        _fit(config, make_learner, run_dir, last_checkpoint(run_dir))
    return run_dir


def _fit(config: Config, make_learner: LearnerFactory, run_dir: Path, checkpoint: Path | None) -> None:
    _quieten()
    if rank_of(config).count > 1:
        os.environ[RUN_DIR] = str(run_dir)  # for the ranks that Lightning starts, with this command
    with stoppable(), requeueing() as wish:
        parts = assemble(config, make_learner, run_dir, checkpoint)
        try:
            with finishing(parts.tracker):
                _train(config, parts, run_dir, checkpoint)
        except SIGTERMException as error:
            if wish.asked and parts.trainer.is_global_zero:
                requeue(comes_back=checkpoint is not None or config.run.name is not None)
            raise StoppedError(_parting(parts.trainer, run_dir)) from error
        except SystemExit as error:  # what Lightning makes of a second Ctrl-C
            raise KeyboardInterrupt from error
        except NonFiniteError as error:
            kept = keep_evidence(run_dir, error)
            where = "" if kept is None else f"; kept as '{kept}'"
            raise NonFiniteError(f"{error}{where}; {_way_on(run_dir)}") from error
        except EnvError as error:
            log.error("the environment failed", exc_info=error)
            raise EnvError(f"{error}; '{run_dir / LOG_FILE}' has its traceback; {_way_on(run_dir)}") from error
        except UserError as error:
            if parts.learner.updates == 0:
                raise
            raise BegunError(str(error)) from error
    curves = "`make ui` shows its curves" if config.tracking.kind == "mlflow" else "metrics.csv holds its curves"
    log.info("done: `make evaluate RUN=%s` scores and films it, %s", run_dir, curves)


def _train(config: Config, parts: Parts, run_dir: Path, checkpoint: Path | None) -> None:
    if may_memorise(config, len(find_demos(config.env.name, config.demos, config.seed))):
        log.info("a single demonstration: algo=vmil_few is made for that")
    before, spent = _status(run_dir), parts.data.pace.spent
    if spent:
        log.info(
            "all training.frames=%d frames are collected; raise training.frames to continue", config.training.frames
        )
    parts.trainer.fit(parts.learner, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
    if not _saved(parts.trainer):
        if has_checkpoint(run_dir):
            lost = "its last checkpoint could not be written: make room, then `make resume`"
        else:
            lost = "no checkpoint could be written: make room, then start again with `make train`"
        raise UserError(f"trained to the end, but {lost}")
    if spent and load_saved_config(run_dir / CONFIG_FILE).training.frames > config.training.frames:
        parts.tracker.finish(before)  # nothing was trained, and the run's own budget is not reached


def _status(run_dir: Path) -> RunStatus:
    """How the run ended last time; KILLED where it could not say."""
    noted = read_record(run_dir).get("status")
    return next((status for status in get_args(RunStatus) if status == noted), "KILLED")


def may_memorise(config: Config, demonstrations: int) -> bool:
    """Whether D compares dreams with a single demonstration: it then takes anything else for the policy's."""
    return demonstrations == 1 and config.learner == "vmil" and config.discriminator.dream_negatives


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


def _way_on(run_dir: Path) -> str:
    """What is left to do after a run that broke down."""
    if has_checkpoint(run_dir):
        return "`make resume` goes on from the last checkpoint"
    return "there is no checkpoint yet: start again with `make train`"


def _quieten() -> None:
    """Lightning's advice that does not apply to a manual loop over an endless data set."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
