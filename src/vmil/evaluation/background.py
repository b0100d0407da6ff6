"""An evaluation in a process of its own, while the process that asked for it goes on learning."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torchrl.envs import EnvBase

from vmil.data.players import settle_in
from vmil.evaluation.rollout import Rollout, evaluate


class Examinee(Protocol):
    """A policy that can be sent to another process, with its own metrics of its episodes."""

    def __call__(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `Policy`."""

    def judge(self, rollout: Rollout) -> dict[str, float]:
        """Metrics besides the score."""


@dataclass(frozen=True)
class Job:
    """A complete evaluation: it gives the same result in any process of the same machine."""

    examinee: Examinee
    make_env: Callable[[int], EnvBase]
    episodes: int
    seed: int
    video: bool

    def run(self, on_step: Callable[[int], None] | None = None) -> tuple[Rollout, dict[str, float]]:
        """Plays it in this process; `on_step` may raise to break off."""
        torch.manual_seed(self.seed)
        rollout = evaluate(self.examinee, self.make_env, self.episodes, self.seed, video=self.video, on_step=on_step)
        return rollout, self.examinee.judge(rollout)


class BackgroundEvaluator:
    """One process for one evaluation at a time; it is started with the first and ends with this one."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._result: Future[tuple[Rollout, dict[str, float]]] | None = None
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Begins an evaluation; the result of the last one must have been taken."""
        assert self._job is None
        try:
            self._result = self._send(job)
        except BrokenProcessPool:  # it was killed while idle, for its memory perhaps
            self.close()
            self._result = self._send(job)
        self._job = job

    def _send(self, job: Job) -> Future[tuple[Rollout, dict[str, float]]]:
        if self._pool is None:
            # Not forked: this process has threads, a GPU, an OpenGL context.
            apart = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=apart, initializer=settle_in, initargs=(os.getpid(),))
        # As bytes: torch would otherwise pass tensors through shared memory, which a kill leaves behind.
        return self._pool.submit(_run, pickle.dumps(job), torch.get_float32_matmul_precision())

    def wait(self, seconds: float = 0.0) -> bool:
        """Whether it is done, now or within that time."""
        assert self._result is not None
        try:
            self._result.exception(timeout=seconds)
        except TimeoutError:
            return False
        return True

    def take(self, on_step: Callable[[int], None]) -> tuple[Rollout, dict[str, float]]:
        """Its result; if its process was lost, it is made in this one, unless `on_step` raises."""
        assert self._result is not None
        assert self._job is not None
        result, job, self._result, self._job = self._result, self._job, None, None
        try:
            return result.result()
        except BrokenProcessPool:
            self.close()
            return job.run(on_step)

    def close(self) -> None:
        """Ends the process at once; what it was doing is lost."""
        self._result = self._job = None
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _run(job: bytes, precision: str) -> tuple[Rollout, dict[str, float]]:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(precision)
    found: Job = pickle.loads(job)  # from the parent process's memory, never from a file
    return found.run()
