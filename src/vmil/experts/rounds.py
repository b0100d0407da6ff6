"""Training of an actor in rounds: an evaluation and a checkpoint after each, the best actor kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from torch import nn
from tqdm import tqdm

from vmil.errors import UserError
from vmil.experts.actor import save_actor
from vmil.experts.expert import ACTOR
from vmil.experts.practice import Practice
from vmil.system.archives import read_archive, write_archive


class Evaluation(TypedDict):
    """One point of the learning curve; returns are of deterministic episodes, seconds are spent so far."""

    frames: int
    mean: float
    min: float
    seconds: float


class Learner(Protocol):
    """What learns: `state` and `load` are its checkpoint, and a round starts from nothing but that."""

    @property
    def practice(self) -> Practice:
        """What it learns."""
        ...

    @property
    def actor_net(self) -> nn.Module:
        """The network that becomes the actor."""
        ...

    @property
    def frames(self) -> int:
        """Environment frames so far."""
        ...

    def run_round(self, bar: tqdm[Any]) -> None:
        """Collect and learn until the next evaluation."""
        ...

    def state(self) -> dict[str, Any]:
        """All that the next round depends on."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; UserError when it belongs to another task or seed."""
        ...


def best_return(curve: list[Evaluation]) -> float:
    """The highest mean of the evaluations; minus infinity of none."""
    return max((point["mean"] for point in curve), default=-float("inf"))


def saved_curve(checkpoint: Path) -> list[Evaluation]:
    """The learning curve that a checkpoint holds; none if there is no such file."""
    if not checkpoint.exists():
        return []
    try:
        curve: list[Evaluation] = read_archive(checkpoint)["curve"]
    except (ValueError, KeyError) as error:
        raise _damaged(checkpoint) from error
    return curve


def train_rounds(
    learner: Learner,
    frames: int,
    out_dir: Path,
    checkpoint: str,
    episodes: int,
    *,
    to_beat: float = -float("inf"),
    target: float = 0.0,
    resume: bool = True,
) -> list[Evaluation]:
    """Train up to so many frames, or until an evaluation of `episodes` reaches `target`, if above 0; the curve.

    Takes up `checkpoint` in `out_dir` first if `resume`. An actor better than all before it, and than `to_beat`, goes
    to `actor.safetensors`.
    """
    path = out_dir / checkpoint
    curve = _take_up(learner, path) if resume else []
    with tqdm(total=frames, initial=learner.frames, unit="frame", disable=None) as bar:
        while learner.frames < frames and not 0 < target <= best_return(curve):
            _train_round(learner, curve, to_beat, out_dir / ACTOR, episodes, bar)
            write_archive(path, {**learner.state(), "curve": curve})
    return curve


def _take_up(learner: Learner, checkpoint: Path) -> list[Evaluation]:
    if not checkpoint.exists():
        return []
    try:
        saved = read_archive(checkpoint)
        learner.load(saved)
        curve: list[Evaluation] = saved["curve"]
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(checkpoint) from error
    return curve


def _damaged(checkpoint: Path) -> UserError:
    return UserError(f"'{checkpoint}' is damaged: remove it, and the expert is trained anew")


def _train_round(
    learner: Learner, curve: list[Evaluation], to_beat: float, actor: Path, episodes: int, bar: tqdm[Any]
) -> None:
    started, spent, best = time.monotonic(), curve[-1]["seconds"] if curve else 0.0, max(best_return(curve), to_beat)
    learner.run_round(bar)
    returns = learner.practice.score(learner.actor_net, episodes)
    mean, low = float(np.mean(returns)), float(np.min(returns))
    if mean > best:
        save_actor(actor, learner.actor_net, learner.practice.spec)
    bar.set_postfix(last=f"{mean:.0f}", best=f"{max(mean, best):.0f}")
    seconds = spent + time.monotonic() - started
    curve.append({"frames": learner.frames, "mean": mean, "min": low, "seconds": seconds})
