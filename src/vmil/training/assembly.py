"""What a run is made of: learner, data, tracker and trainer, put together and checked before anything is learnt."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import lightning
import torch
from lightning.pytorch.callbacks import LambdaCallback

from vmil.config.keys import flatten
from vmil.config.learners import collects
from vmil.config.load import save_config
from vmil.config.runs import CONFIG_FILE, replay_dir
from vmil.config.schema import Config
from vmil.data.datamodule import VMILDataModule
from vmil.data.demo_files import find_demos
from vmil.data.episode_files import stored_bytes
from vmil.data.ranks import rank_of
from vmil.envs.factory import env_info, make_env
from vmil.envs.tasks import is_single
from vmil.errors import UserError
from vmil.learner.device import choose_device, choose_threads, require_device, use_bf16
from vmil.learner.module import ImitationModule
from vmil.system.allocator import keep_memory
from vmil.system.provenance import git_commit
from vmil.tracking.record import read_record
from vmil.tracking.tracker import Tracker, make_tracker
from vmil.training.callbacks import make_callbacks
from vmil.training.evidence import SkipReport
from vmil.training.restore import read_checkpoint, try_on
from vmil.training.rundir import require_disk
from vmil.training.together import placement

log = logging.getLogger(__name__)

# From configuration, action size and size of the vector observation (0: none) to what learns. Which algorithms there
# are is known above, in `vmil.algorithms`: here all are run alike.
LearnerFactory: TypeAlias = Callable[[Config, int, int], ImitationModule]


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
    require_device(config)
    _require_turns(config)
    prepare_torch(config)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    rank = rank_of(config)
    data = VMILDataModule(config, replay_dir=replay_dir(run_dir), rank=rank)
    try:
        learner = make_learner(config, data.info.action_size, data.info.proprio_size)
        learner.clock = data.pace
        learner.guard.on_skip = SkipReport(run_dir)
        content = {} if checkpoint is None else read_checkpoint(checkpoint, learner)  # before anything is rendered
        if rank.index == 0:
            _introduce(config, run_dir, data)
        data.setup("fit")
        data.set_policy(learner.exploration_policy())
        if checkpoint is not None:
            try_on(checkpoint, content, learner, data)
        tracker = make_tracker(config.tracking, run_dir) if rank.index == 0 else Tracker()
    except BaseException:
        data.close()
        raise
    # Kept only once training goes on: overrides that do not fit, or with which nothing is trained, are not the run's.
    keeper = LambdaCallback(on_train_start=lambda *_: None if rank.index else _keep(config, run_dir, data, tracker))
    callbacks = make_callbacks(config, tracker, run_dir, partial(make_env, config.env), frames_per_second(config))
    trainer = lightning.Trainer(
        **placement(config, choose_device(config)),
        max_epochs=data.pace.epochs,
        callbacks=[keeper, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        default_root_dir=run_dir,
    )
    return Parts(learner, data, tracker, trainer)


def prepare_torch(config: Config) -> None:
    """Threads, allocator, determinism and choice of kernels of this process."""
    keep_memory()
    torch.set_num_threads(choose_threads(config))
    torch.set_float32_matmul_precision("high")
    if config.debug.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; else its products may vary
    torch.use_deterministic_algorithms(config.debug.deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not config.debug.deterministic  # an update's shapes never change: choose once


def frames_per_second(config: Config) -> float:
    """Speed of a video with one picture per agent step: the task's own, or as if it had 40 frames a second."""
    return (env_info(config.env).frames_per_second or 40.0) / config.env.action_repeat


def _require_turns(config: Config) -> None:
    """UserError if a single environment would be open several times at once."""
    if not is_single(config.env.name):
        return
    collector, compute = config.collector, config.compute
    asked = {
        f"collector.backend={collector.backend}": collects(config) and collector.backend != "direct",
        "training.background_evaluation=always": config.training.background_evaluation == "always",
        f"compute.devices × compute.nodes = {compute.devices * compute.nodes}": compute.devices * compute.nodes > 1,
    }
    for setting, wrong in asked.items():
        if wrong:
            raise UserError(
                f"{setting} cannot be: there is only one {config.env.name}, and it would be open twice "
                "(collector.backend=direct, background_evaluation=auto and one device take turns)"
            )


def _introduce(config: Config, run_dir: Path, data: VMILDataModule) -> None:
    """Says what is about to run, on what, and what it will take."""
    size, device = data.footprint, choose_device(config)
    replays = size.replay_bytes * config.compute.devices * config.compute.nodes  # bytes, of all ranks
    more = max(0, replays - stored_bytes(replay_dir(run_dir)))
    free = require_disk(run_dir, more)
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
        replays / 1e9,
        size.demo_bytes / 1e9,
        more / 1e9,
        free / 1e9,
    )
    if data.place is not None:
        log.info("replay and demonstrations lie on %s", data.place)
    collector = config.collector
    if collects(config) and (collector.workers > 1 or collector.overlap):
        when = ", while it learns" if collector.overlap else ""
        log.info("episodes are played %d at a time: %s%s", collector.workers, collector.backend, when)
    if config.debug.use_ground_truth_reward:
        log.warning(
            "NOT IMITATION: debug.use_ground_truth_reward puts the environment's reward in the discriminator's place"
        )


def _keep(config: Config, run_dir: Path, data: VMILDataModule, tracker: Tracker) -> None:
    """Writes down what the run is from here on; of a resumed one too, which may be tracked elsewhere now."""
    save_config(config, run_dir / CONFIG_FILE)
    tracker.params(flatten(config))
    chosen = find_demos(config.env.name, config.demos, config.seed)
    tags = {"commit": _commits(run_dir), "algo": config.algo, "env": config.env.name}
    tracker.tags(tags | {"demos": data.digest, "demonstrations": str(len(chosen))})
    tracker.artifact(run_dir / CONFIG_FILE)


def _commits(run_dir: Path) -> str:
    """Every commit of the code that trained the run so far, the first one first."""
    now, tags = git_commit(), read_record(run_dir).get("tags")
    before = str(tags.get("commit", "")) if isinstance(tags, dict) else ""
    known = before.split(", ") if before else []
    return ", ".join([*known, *([] if now in known else [now])])
