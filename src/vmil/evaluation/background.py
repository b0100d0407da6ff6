"""An evaluation in a process of its own, while the process that asked for it goes on learning."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

import torch
from torch import Tensor

from vmil.envs.episodes import EpisodicEnv
from vmil.evaluation.rollout import SIDE_BY_SIDE, Rollout, evaluate
from vmil.system.workers import settle_in

log = logging.getLogger(__name__)


class Examinee(Protocol):
    """A policy that can be sent to another process, with its own metrics of its episodes."""

    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `Policy`."""

    def judge(self, rollout: Rollout) -> dict[str, float]:
        """Metrics besides the score."""


@dataclass(frozen=True)
class Evaluation:
    """A complete evaluation: it gives the same result in any process of the same machine."""

    examinee: Examinee
    make_env: Callable[[int], EpisodicEnv]
    episodes: int
    seed: int
    video: bool
    side_by_side: int = SIDE_BY_SIDE

    def run(self, on_step: Callable[[int], None] | None = None) -> tuple[Rollout, dict[str, float]]:
        """Plays it in this process; `on_step` may raise to break off."""
        torch.manual_seed(self.seed)
        rollout = evaluate(
            self.examinee, self.make_env, self.episodes, self.seed, self.video, on_step, self.side_by_side
        )
        return rollout, self.examinee.judge(rollout)


class BackgroundEvaluator:
    """One process for one evaluation at a time; it is started with the first and ends with this one.

    timeout: seconds for an episode; a process that takes longer for all of its episodes counts as hung, and as lost.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._deadline = float("inf")
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._sender: threading.Thread | None = None
        self._evaluation: Evaluation | None = None

    def start(self, evaluation: Evaluation) -> None:
        """Begins an evaluation; the result of the last one must have been taken."""
        assert self._evaluation is None
        if self._process is not None and not self._process.is_alive():  # killed while idle, for its memory perhaps
            self.close()
        if self._pipe is None:
            self._pipe = self._open()
        # As bytes: torch would otherwise pass tensors through shared memory, which a kill leaves behind.
        order = pickle.dumps((evaluation, torch.get_float32_matmul_precision()))
        # In a thread: a process that is still starting does not read, which takes seconds.
        self._sender = threading.Thread(target=_send, args=(self._pipe, order), daemon=True)
        self._sender.start()
        self._evaluation = evaluation
        self._deadline = time.monotonic() + self.timeout * evaluation.episodes

    def _open(self) -> Connection:
        # Not forked: this process has threads, a GPU, an OpenGL context.
        apart = multiprocessing.get_context("spawn")
        here, there = apart.Pipe()
        process = apart.Process(target=_serve, args=(there, os.getpid()), daemon=True)
        process.start()
        self._process = process
        there.close()  # now held by that process alone: when it dies, at whatever moment, reading ends
        return here

    def wait(self, seconds: float = 0.0) -> bool:
        """Whether it is done or its process lost, now or within that time; one that hangs is ended, and so lost."""
        assert self._pipe is not None
        if self._pipe.poll(seconds):
            return True
        if time.monotonic() < self._deadline:
            return False
        assert self._process is not None
        log.warning("the process that evaluates hangs (collector.timeout): its episodes are played here instead")
        self._process.kill()
        self._process.join()
        return True

    def take(self, on_step: Callable[[int], None]) -> tuple[Rollout, dict[str, float]]:
        """Its result; if its process was lost, it is made in this one, unless `on_step` raises."""
        assert self._pipe is not None
        assert self._evaluation is not None
        evaluation, self._evaluation = self._evaluation, None
        try:
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError):  # it was killed, perhaps while it answered
            self.close()
            return evaluation.run(on_step)
        result: tuple[Rollout, dict[str, float]] | Exception = pickle.loads(answer)  # from a process of our own
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Ends the process at once; what it was doing is lost."""
        self._evaluation = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._sender is not None:  # which can send no more
            self._sender.join()
            self._sender = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _send(pipe: Connection, order: bytes) -> None:
    with suppress(OSError):  # the process is gone, as whoever reads its answer finds out
        pipe.send_bytes(order)


def _serve(pipe: Connection, parent: int) -> None:
    """In the other process: one answer, a result or what went wrong, to each order."""
    settle_in(parent)
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # its parent has ended
        while True:
            order = pipe.recv_bytes()
            evaluation, precision = pickle.loads(order)  # from the parent process's memory, never from a file
            torch.set_float32_matmul_precision(precision)
            pipe.send_bytes(pickle.dumps(_answer(evaluation)))


def _answer(evaluation: Evaluation) -> tuple[Rollout, dict[str, float]] | Exception:
    try:
        return evaluation.run()
    except Exception as error:  # noqa: BLE001  (raised where the result is taken)
        error.add_note(f"In the process that evaluates:\n{traceback.format_exc()}")
        return error
