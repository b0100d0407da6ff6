"""Sends numbers to the tracker once per round, and watches the run's health."""

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

from vmil.config.schema import Config
from vmil.tracking.health import Finding, derived, diagnose
from vmil.tracking.tracker import Tracker
from vmil.training.interfaces import data_of, learner_of

log = logging.getLogger(__name__)


class Watchdog:
    """Warns, once per metric, of what is unhealthy for `patience` readings, or non-finite (NaN or inf).

    The warning goes to the log and, as the tag `health.<cause>`, to the tracker.
    """

    def __init__(self, config: Config, tracker: Tracker, patience: int = 3) -> None:
        self.config, self.tracker, self.patience = config, tracker, patience
        self._sick: Counter[str] = Counter()
        self._warned: set[str] = set()

    def __call__(self, values: Mapping[str, float], frames: int) -> dict[str, float]:
        """Looks at the metrics of one moment; gives `health/*`, what they say together."""
        together = derived(values, self.config)
        looked_at = {**values, **together}
        found = diagnose(looked_at, frames, self.config)
        for name in looked_at:
            self._sick[name] = self._sick[name] + 1 if name in found else 0
        for name, finding in found.items():
            lasting = self._sick[name] >= self.patience or not math.isfinite(looked_at[name])
            if lasting and name not in self._warned:
                self._warned.add(name)
                self._warn(finding, frames)
        return {**together, "health/warnings": float(len(found))}

    def state_dict(self) -> dict[str, Any]:
        """For how many readings each metric has been unhealthy, and what was warned of."""
        return {"sick": {name: count for name, count in self._sick.items() if count}, "warned": sorted(self._warned)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Watches on from a checkpoint."""
        self._sick, self._warned = Counter(state["sick"]), set(state["warned"])

    def _warn(self, finding: Finding, frames: int) -> None:
        log.warning("after %d frames %s", frames, finding.sentence)
        tag = f"health.{finding.cause.replace(' ', '_')}"
        self.tracker.tags({tag: f"after {frames} frames {finding.sentence}"})


class TrackingFlush(Callback):
    """Sends the means of the learner's and the data's metrics, and the rates, to the tracker after every round."""

    def __init__(self, tracker: Tracker, watchdog: Watchdog) -> None:
        self.tracker = tracker
        self.latest: dict[str, float] = {}  # the last round's metrics, for whoever shows them
        self._watchdog = watchdog
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
        values |= self._watchdog(values, data.frames)
        self.tracker.metrics(values, data.frames)
        self.latest = values

    def state_dict(self) -> dict[str, Any]:
        """Where the tracker and the watchdog stand, so that a resumed run reports nothing twice."""
        return {**self.tracker.state_dict(), "watchdog": self._watchdog.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores both from the checkpoint."""
        self.tracker.load_state_dict({name: value for name, value in state_dict.items() if name != "watchdog"})
        self._watchdog.load_state_dict(state_dict["watchdog"])

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
