"""Numbers leave for the tracker once per round, and the run is watched for ill health."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import lightning
import psutil
from lightning.pytorch.callbacks import Callback

from vmil.learner.interfaces import data_of, learner_of
from vmil.tracking.metrics import unhealthy
from vmil.tracking.tracker import Tracker

log = logging.getLogger(__name__)


class Watchdog:
    """Warns once per metric that is outside its healthy range in `patience` successive rounds, or not finite."""

    def __init__(self, patience: int = 3) -> None:
        self.patience = patience
        self._sick: Counter[str] = Counter()
        self._warned: set[str] = set()

    def __call__(self, values: Mapping[str, float], frames: int) -> None:
        """Looks at one round's metrics."""
        found = unhealthy(values)
        for name in values:
            self._sick[name] = self._sick[name] + 1 if name in found else 0
        for name, sentence in found.items():
            lasting = self._sick[name] >= self.patience or not math.isfinite(values[name])
            if lasting and name not in self._warned:
                self._warned.add(name)
                log.warning("after %d frames %s", frames, sentence)


class TrackingFlush(Callback):
    """Sends the means of the learner's and the data's metrics, and the rates, to the tracker after every round."""

    def __init__(self, tracker: Tracker, watchdog: Watchdog | None = None) -> None:
        self.tracker = tracker
        self.latest: dict[str, float] = {}  # the last round's metrics, for whoever shows them
        self._watchdog = watchdog or Watchdog()
        self._process = psutil.Process()
        self._since = time.monotonic()
        self._frames = 0
        self._updates = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Starts the clock of the rates."""
        self._since, self._frames, self._updates = time.monotonic(), data_of(trainer).frames, 0

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """Counts updates."""
        self._updates += 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Sends."""
        data = data_of(trainer)
        values = self._rates(data.frames) | data.metrics | learner_of(pl_module).drain_metrics()
        self.tracker.metrics(values, data.frames)
        self._watchdog(values, data.frames)
        self.latest = values

    def state_dict(self) -> dict[str, Any]:
        """Where the tracker stands, so that a resumed run reports nothing twice."""
        return self.tracker.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the tracker back to the checkpoint."""
        self.tracker.load_state_dict(state_dict)

    def _rates(self, frames: int) -> dict[str, float]:
        now = time.monotonic()
        seconds = max(now - self._since, 1e-9)
        rates = {
            "rate/frames": (frames - self._frames) / seconds,
            "rate/updates": self._updates / seconds,
            "run/seconds": self.tracker.seconds(),
            "system/memory_gb": self._process.memory_info().rss / 1e9,
        }
        self._since, self._frames, self._updates = now, frames, 0
        return rates
