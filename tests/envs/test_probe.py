"""Asking an OpenGL backend: patient with a busy machine, not with a driver that hangs; and a context that fails."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from vmil.envs import probe
from vmil.envs.rendering import Renderer
from vmil.errors import StoppedError, UserError

BUSY = "import time\nwhile time.process_time() < 0.8: pass\nprint('frame_ms', 2.5)"


def test_a_child_that_works_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROBE", BUSY)
    monkeypatch.setattr(probe, "PATIENCE", 10_000)
    spent = itertools.count(1.0)  # the system's own count goes by hundredths: a child on a busy machine looks idle
    monkeypatch.setattr(probe, "_cpu_seconds", lambda child: next(spent))
    assert probe.probe_backend("egl", timeout=0.2) == probe.BackendReport("egl", True, 2.5, "")


def test_a_child_that_does_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROBE", "import threading\nthreading.Event().wait()")
    monkeypatch.setattr(probe, "PATIENCE", 10_000)
    report = probe.probe_backend("egl", timeout=0.2)
    assert not report.ok
    assert report.timed_out
    assert report.error == "no picture within 0 s, as when the machine is too busy or the driver hangs"


def test_nor_is_one_that_works_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_PROBE", "while True: pass")
    monkeypatch.setattr(probe, "PATIENCE", 2)
    assert probe.probe_backend("egl", timeout=0.2).error.startswith("no picture within")


LOST = RuntimeError("context lost\nand a long trace")


def renderer(failures: int, error: BaseException = LOST) -> tuple[Any, list[str]]:
    """A renderer without OpenGL, whose first drawings fail."""
    done: list[str] = []

    def draw() -> np.ndarray:
        done.append("draw")
        if done.count("draw") <= failures:
            raise error
        return np.zeros((4, 4, 3), np.uint8)

    made: Any = object.__new__(Renderer)
    made._backend, made._draw, made._open_anew = "egl", draw, lambda: done.append("open")
    made.close = lambda: None  # else the destructor frees what was never there
    made._opened = True
    return made, done


def test_a_context_that_fails_is_opened_once_more(caplog: pytest.LogCaptureFixture) -> None:
    made, done = renderer(failures=1)
    assert made().shape == (4, 4, 3)
    assert done == ["draw", "open", "draw"]
    assert "OpenGL failed (context lost): its context is opened anew" in caplog.text


def test_if_that_fails_too_it_is_one_sentence() -> None:
    made, _ = renderer(failures=2)
    with pytest.raises(UserError, match=r"^OpenGL \(egl\) stopped rendering: context lost$"):
        made()


def test_a_wish_to_stop_passes_through_the_renderer() -> None:
    """SIGTERM while OpenGL starts was reported as an OpenGL that does not work."""
    made, done = renderer(failures=1, error=StoppedError("stopped before training began"))
    with pytest.raises(StoppedError):
        made()
    assert done == ["draw"]  # and not opened anew
