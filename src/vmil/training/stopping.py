"""Stopping a run from outside: after the update in hand, with a checkpoint, and marked as what it was."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from vmil.errors import StoppedError
from vmil.tracking.tracker import RunStatus, Tracker

log = logging.getLogger(__name__)


class GracefulStop(Callback):
    """Makes Ctrl-C stop a run as SIGTERM does; a second Ctrl-C stops at once and saves nothing.

    Lightning 2.6 notes SIGTERM and raises SIGTERMException between two updates, where a checkpoint is exact; Ctrl-C it
    lets through as KeyboardInterrupt, which may come in the middle of one. So Ctrl-C is turned into SIGTERM.
    """

    def __init__(self) -> None:
        self._before: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes SIGINT over; not earlier, because only now Lightning listens for SIGTERM.

        Where it is ignored, as in the background of a script, it stays so: it is meant for others.
        """
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if threading.current_thread() is threading.main_thread() and not ignored:
            self._before = signal.signal(signal.SIGINT, self._on_interrupt)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Gives it back."""
        self._restore()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Gives it back."""
        self._restore()

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        self._restore()
        log.warning("stopping after this update, with a checkpoint; press Ctrl-C again to stop at once")
        signal.raise_signal(signal.SIGTERM)

    def _restore(self) -> None:
        if self._before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)
            self._before = None


@contextmanager
def stoppable() -> Iterator[None]:
    """Until training itself listens, SIGTERM ends the block with StoppedError: what is open is closed and reported.

    A closed terminal's SIGHUP does what SIGTERM does, throughout; under `nohup`, which has it ignored, nothing.
    """

    def stop(signum: int, frame: FrameType | None) -> None:
        if signal.getsignal(signal.SIGTERM) is stop:  # else Lightning has taken it over, and calls this one as well
            raise StoppedError("stopped before training began: there is nothing new to go on from")

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def hang_up(signum: int, frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGTERM)

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, stop)}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, hang_up)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def finishing(tracker: Tracker) -> Iterator[None]:
    """Ends the tracker as the block ends: FINISHED, KILLED (SIGTERM, Ctrl-C) or FAILED; the exception goes on."""
    try:
        yield
    except (SIGTERMException, StoppedError, KeyboardInterrupt, SystemExit):
        _finish(tracker, "KILLED")
        raise
    except BaseException:
        _finish(tracker, "FAILED")
        raise
    _finish(tracker, "FINISHED")


def _finish(tracker: Tracker, status: RunStatus) -> None:
    """A SIGTERM meanwhile asks for what is happening anyway; Ctrl-C cuts a long farewell to a server short."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN) if main else None
    try:
        tracker.finish(status)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
