"""How a worker process stands to its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from typing import Any

_DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
_LOOK_EVERY = 1.0  # seconds between two looks at the parent, where there is no prctl


def settle_in(parent: int | None = None) -> None:
    """Called first in a worker process: it leaves Ctrl-C and a closed terminal to its parent, and ends with its parent.

    parent: its pid, if known: it may have died while this process was starting.
    """
    for which in (signal.SIGINT, signal.SIGHUP):
        signal.signal(which, signal.SIG_IGN)
    parent = os.getppid() if parent is None else parent
    prctl: Any = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it
    if prctl is not None:
        prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    else:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _end_with(parent: int) -> None:
    """Looks for as long as the parent lives: an orphan is given another one."""
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)
