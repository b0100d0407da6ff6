"""What is said of an evaluation: its numbers, its film, and pictures of what the model and the discriminator think."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import lightning

from vmil.config.schema import ScoreName
from vmil.data.transition import Batch
from vmil.evaluation.rollout import Rollout
from vmil.evaluation.scores import Score, score
from vmil.learner.module import ImitationModule
from vmil.tracking.tracker import Tracker
from vmil.training.interfaces import crossed, data_of
from vmil.training.pictures import log_pictures

log = logging.getLogger(__name__)


class Reporter:
    """Sends evaluations to the tracker and the log; `watch` looks at the numbers of each.

    pictures_every: frames between two films, and between two sets of pictures. fps: the film's pictures a second.
    """

    def __init__(
        self,
        tracker: Tracker,
        pictures_every: int,
        fps: float,
        headline: ScoreName,
        watch: Callable[[dict[str, float], int], object],
    ) -> None:
        self.last: Score | None = None
        self.scored_frames = -1  # frames that it is of
        self._tracker, self._every, self._fps, self._watch = tracker, pictures_every, fps, watch
        self._headline: ScoreName = headline
        self._pictured_frames = -1

    def wants_pictures(self, frames: int) -> bool:
        """Whether an evaluation at that moment is to be filmed, and pictures drawn."""
        return self._pictured_frames < 0 or crossed(self._pictured_frames, frames, self._every)

    def report(self, trainer: lightning.Trainer, rollout: Rollout, judged: dict[str, float], frames: int) -> None:
        """An evaluation after that many frames; `judged`: the learner's own metrics of its episodes."""
        expert = data_of(trainer).demos.mean_return
        self.last, self.scored_frames = score(rollout.returns, expert, rollout.scores, self._headline), frames
        values = _metrics(self.last, rollout) | judged
        self._tracker.metrics(values, frames)
        self._watch(values, frames)
        log.info("evaluation after %d frames: %s", frames, self.last)
        if rollout.video is not None:
            self._tracker.video("eval/episode", rollout.video, frames, self._fps)

    def draw(self, learner: ImitationModule, batch: Batch, frames: int) -> None:
        """Pictures of the learner as it is now; batch: what its model is to predict."""
        self._pictured_frames = frames
        log_pictures(self._tracker, learner, batch, frames)

    def state_dict(self) -> dict[str, Any]:
        """The last score, and when it and the last pictures were made."""
        return {
            "pictured_frames": self._pictured_frames,
            "last": None if self.last is None else dict(vars(self.last)),
            "scored_frames": self.scored_frames,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores it."""
        self._pictured_frames = state_dict["pictured_frames"]
        self.last = None if state_dict["last"] is None else Score(**state_dict["last"])
        self.scored_frames = state_dict["scored_frames"]


def _metrics(result: Score, rollout: Rollout) -> dict[str, float]:
    values = {
        "eval/return": result.mean,
        "eval/return_std": result.std,
        "eval/episodes": float(result.episodes),
        "eval/seconds": rollout.seconds,
        **{f"eval/{name}": value for name, value in result.extras.items()},
    }
    if result.normalised is not None:
        values["eval/normalised"] = result.normalised
    return values
