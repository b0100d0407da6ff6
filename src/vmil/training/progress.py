"""What a person sees while a run goes on: a bar on a terminal, lines elsewhere, and everything in `run.log`."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from vmil.config.schema import Config
from vmil.data.footprint import collected_env
from vmil.training.flush import TrackingFlush
from vmil.training.interfaces import Data, data_of
from vmil.training.reporter import Reporter

log = logging.getLogger(__name__)

LOG_FILE = "run.log"
LINE_EVERY = 60.0  # seconds without a line, when there is no bar, after which one is written within a round
WINDOW = 600.0  # seconds over which the speed is measured


class Progress(Callback):
    """Frames, updates per second, time left and the last evaluation."""

    def __init__(self, config: Config, flush: TrackingFlush, reporter: Reporter) -> None:
        self.config, self._whole_config = config.training, config
        self._flush, self._reporter = flush, reporter
        self._wants_bar = sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._data: Data | None = None  # of the run, once it has begun
        self._updates = 0  # since this process began training
        self._in_round = 0  # of this round
        self._pretraining = False
        self._window: deque[tuple[float, int]] = deque()
        self._spoke = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Opens the bar."""
        self._data = data_of(trainer)
        self._window = deque([(time.monotonic(), 0)])
        self._spoke = time.monotonic()
        self._pretraining = self._pretrains(trainer)  # again below, which a run resumed within a round leaves out
        if self._wants_bar:
            self._bar = tqdm(
                total=self.config.frames,
                initial=data_of(trainer).frames,
                bar_format="{percentage:3.0f}%|{bar:20}| {desc}",
                dynamic_ncols=True,
                leave=True,
            )
            data_of(trainer).on_collect = self._show
            self._show(data_of(trainer).frames)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """A new round."""
        self._in_round = 0
        self._pretraining = self._pretrains(trainer)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar; without one, says where it is if nothing was said for a while."""
        self._updates += 1
        self._in_round = batch_idx + 1  # not counted here: a resumed run may begin in the middle of a round
        if self._bar is not None:
            self._show(data_of(trainer).frames)
        elif time.monotonic() - self._spoke > LINE_EVERY:
            self._say(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """One line per round in the log."""
        now = time.monotonic()
        self._window.append((now, self._updates))
        while len(self._window) > 2 and now - self._window[1][0] > WINDOW:
            self._window.popleft()
        self._say(trainer)
        self._show(data_of(trainer).frames)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Closes the bar."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Closes the bar."""
        self._close()

    def text(self, frames: int) -> str:
        """`12,000/60,000 frames · 2.40 updates/s · 31 min left · collected 310 · evaluation 730 at 10,000`."""
        if self._pretraining:
            where = f"pre-training {self._in_round:,}/{self.config.pretrain_updates:,} updates"
        else:
            where = f"{frames:,}/{self.config.frames:,} frames"
        speed = self._speed()
        parts = [where, f"{speed:.2f} updates/s"]
        if speed and self._data is not None:
            parts.append(f"{_duration(self._data.updates_left / speed)} left")
        if "collect/return" in self._flush.latest:
            # else a reader would hold it against whole, evaluated episodes
            longest = collected_env(self._whole_config, frames - 1).episode_frames  # in the last round
            within = f" in {longest:,} frames at most" if longest < self._whole_config.env.episode_frames else ""
            parts.append(f"collected {self._flush.latest['collect/return']:.0f}{within}")
        if self._reporter.last is not None:
            parts.append(f"evaluation {self._reporter.last.brief} at {self._reporter.scored_frames:,}")
        return " · ".join(parts)

    def _speed(self) -> float:
        began, updates = self._window[0]
        return (self._updates - updates) / max(time.monotonic() - began, 1e-9)

    def _pretrains(self, trainer: lightning.Trainer) -> bool:
        return trainer.current_epoch == 0 and self.config.pretrain_updates > 0

    def _show(self, frames: int) -> None:
        if self._bar is not None:
            self._bar.n = min(frames, self.config.frames)
            self._bar.set_description_str(self.text(frames), refresh=False)
            self._bar.update(0)

    def _say(self, trainer: lightning.Trainer) -> None:
        self._spoke = time.monotonic()
        log.info("%s", self.text(data_of(trainer).frames))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


class _AroundBar(logging.Handler):
    """Writes above the bar rather than into it, and leaves out the lines that say what the bar says."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == log.name:
            return
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # noqa: BLE001  (a terminal that was closed refuses: the run must live to save)
            self.handleError(record)


class _LogFile(logging.FileHandler):
    """Says once, on the terminal, that it cannot write, where Python's own prints a traceback for every line."""

    _silent = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by `emit` inside its except block."""
        if not self._silent:
            self._silent = True
            reason = sys.exc_info()[1]
            with suppress(OSError):  # of a terminal that was closed
                print(f"{self.baseFilename} cannot be written ({reason}); the run goes on", file=sys.stderr)


def start_logging(run_dir: Path) -> None:
    """Sends vmil's messages (INFO and above) to the terminal, and with times to `run.log`; may be called again.

    Those with a traceback go to `run.log` only: the terminal gets one sentence, from whoever ends the command.
    """
    logger = logging.getLogger("vmil")
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    file = _LogFile(run_dir / LOG_FILE, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal: logging.Handler = _AroundBar() if sys.stderr.isatty() else logging.StreamHandler()
    terminal.addFilter(lambda record: not record.exc_info)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(file)
    logger.addHandler(terminal)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
