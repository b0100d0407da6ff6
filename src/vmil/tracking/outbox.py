"""A mailbox between training and a server that may be slow, away or broken."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from vmil.tracking.address import shown

log = logging.getLogger(__name__)


class Outbox:
    """Makes calls one after the other in a thread of its own; whoever posts them never waits and never sees an error.

    A call that fails for good is dropped. One that may yet succeed is tried again, after a second at first, then at
    growing intervals up to `pause` seconds; what comes after it waits, up to `capacity` calls, of which the oldest go.
    """

    def __init__(
        self, name: str, hopeless: Callable[[Exception], bool], capacity: int = 10_000, pause: float = 30.0
    ) -> None:
        self.name = name
        self.dropped = 0
        self._hopeless, self._capacity, self._pause = hopeless, capacity, pause
        self._calls: deque[Callable[[], None]] = deque()
        self._kept: Callable[[], None] | None = None
        self._changed = threading.Condition()
        self._busy = self._failing = self._closing = self._warned = False
        self._thread = threading.Thread(target=self._work, name=f"outbox-{name}", daemon=True)
        self._thread.start()

    def post(self, call: Callable[[], None], keep: bool = False) -> None:
        """Adds a call; returns at once. `keep`: those that follow need it, so it is never dropped."""
        with self._changed:
            if self._closing:
                return
            if keep:
                self._kept = call
            if len(self._calls) >= self._capacity:
                del self._calls[1 if self._calls[0] is self._kept and len(self._calls) > 1 else 0]
                self.dropped += 1
            self._calls.append(call)
            self._changed.notify_all()

    def drain(self, timeout: float) -> bool:
        """Waits until all is delivered, `timeout` seconds at most, not at all while delivery fails; True if it was."""
        with self._changed:
            return self._changed.wait_for(lambda: self._failing or self._idle(), timeout) and self._idle()

    def close(self, timeout: float) -> int:
        """Delivers what it can in `timeout` seconds; the number of calls that were never delivered."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            lost = len(self._calls) + self._busy + self.dropped
        if lost:
            log.warning("%s: %d messages were not delivered", self.name, lost)
        return lost

    def _idle(self) -> bool:
        return not self._calls and not self._busy

    def _work(self) -> None:
        wait = min(1.0, self._pause)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls or self._closing)
                if not self._calls:
                    return
                call, self._busy = self._calls.popleft(), True
            try:
                call()
                retry = False
            except Exception as error:  # noqa: BLE001  (a server's failure must not end the run, whatever it raises)
                retry = not self._hopeless(error)
                self._warn(error)
            with self._changed:
                self._busy, self._failing = False, retry
                if retry:
                    self._calls.appendleft(call)
                self._changed.notify_all()
                if not retry:
                    wait = min(1.0, self._pause)
                elif self._closing:
                    return
                else:
                    self._changed.wait_for(lambda: self._closing, wait)
                    wait = min(2 * wait, self._pause)

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            reason = shown(f"{type(error).__name__}: {error}".split("\n")[0])[:300]
            log.warning("%s: %s; the run goes on, metrics.csv keeps everything", self.name, reason)
