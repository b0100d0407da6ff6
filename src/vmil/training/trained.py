"""What a run has learnt: taken from its last checkpoint, played, scored, filmed."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vmil.config.load import load_saved_config
from vmil.config.runs import CONFIG_FILE, last_checkpoint
from vmil.config.schema import Config
from vmil.data.collect import Policy
from vmil.data.demo_files import find_demos
from vmil.data.demos import mean_return
from vmil.data.recording import CONVERSION, Recording, read_recording
from vmil.envs.factory import env_info, make_env
from vmil.envs.rendering import prepare_rendering
from vmil.errors import UserError
from vmil.evaluation.rollout import evaluate, open_at_once
from vmil.evaluation.scores import Score, score
from vmil.learner.device import choose_device, playable
from vmil.learner.module import ImitationModule
from vmil.tracking.pictures import write_video
from vmil.training.assembly import LearnerFactory, frames_per_second, prepare_torch
from vmil.training.restore import read_checkpoint

log = logging.getLogger(__name__)


def evaluate_run(run_dir: Path, make_learner: LearnerFactory, episodes: int, video: Path | None) -> Score:
    """Plays `episodes` deterministic episodes with the run's last checkpoint, prints the score, films the first.

    Raises:
        UserError: no checkpoint, or one that does not fit the run's configuration.
    """
    config = playable(load_saved_config(run_dir / CONFIG_FILE))
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
    content = read_checkpoint(last_checkpoint(run_dir), learner)
    learner.load_state_dict(content["state_dict"])
    return learner.to(choose_device(config)).eval(), content


def play(name: str, policy: Policy, config: Config, expert: float | None, episodes: int, video: Path | None) -> Score:
    """Plays the policy, prints its score beside its name and the expert's mean return, films its first episode."""
    torch.manual_seed(config.seed)  # as in the evaluations during training
    make, at_once = partial(make_env, config.env), open_at_once(config.env.name)
    rollout = evaluate(policy, make, episodes, config.seed, video=video is not None, side_by_side=at_once)
    result = score(rollout.returns, expert, rollout.scores, config.env.score)
    print(f"{name}: {result}")
    if video is not None and rollout.video is not None:
        try:
            write_video(video, rollout.video, fps=frames_per_second(config))
        except OSError as error:
            raise UserError(f"the video '{video}' cannot be written: {error.strerror or error}") from error
        print(f"video: {video}")
    return result


def expert_return(config: Config) -> float | None:
    """Mean return of the demonstrations; None if it or they are unknown, which costs the normalised score only."""
    try:
        return mean_return(_demonstrations(config))
    except UserError as error:
        log.warning("no normalised score: %s", error)
        return None


def imported_as(config: Config) -> dict[str, Any]:
    """What `make import-demos` did to the run's demonstrations, by option; empty if they are gone, or not all alike."""
    try:
        found = [{key: each.meta[key] for key in CONVERSION if key in each.meta} for each in _demonstrations(config)]
    except UserError:
        return {}
    return found[0] if all(each == found[0] for each in found) else {}


def _demonstrations(config: Config) -> list[Recording]:
    return [read_recording(path) for path in find_demos(config.env.name, config.demos, config.seed)]
