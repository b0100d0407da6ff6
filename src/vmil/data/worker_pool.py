"""TorchRL's workers, held so that waiting for them can be interrupted, and never lasts for ever."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.weight_update import SharedMemWeightSyncScheme

from vmil.config.schema import CollectorConfig
from vmil.data.players import EpisodeWorker, Player
from vmil.envs.episodes import EpisodicEnv
from vmil.envs.rendering import FOUND
from vmil.errors import UserError, first_line
from vmil.system.cluster import join_cluster
from vmil.system.workers import settle_in

T = TypeVar("T")
_LOOK_EVERY = 0.2  # seconds between two checks for a request to stop
_END_WITHIN = 20.0  # seconds that TorchRL is given to notice that its workers are gone

APART = {  # how a worker collects, wherever it runs
    "compact_obs": True,  # next observations are not stored twice
    "use_buffers": False,  # with buffers TorchRL tries the policy out
    "auto_register_policy_transforms": False,
}


class LostWorkersError(Exception):
    """A worker died, hung or could not begin; the others have been ended."""


@dataclass(frozen=True)
class EpisodeSpec:
    """The episodes that a pool of workers plays: in which environment, and of how many agent steps at most."""

    make_env: Callable[[], EpisodicEnv]
    steps: int


class WorkerPool:
    """`workers` workers, which play that many episodes at a time.

    All calls into TorchRL are made in a thread of their own: the main thread, which can be interrupted and gives up
    after a time, never depends on calls that may not return, the learner can go on meanwhile, and the workers end with
    that thread.
    """

    def __init__(self, config: CollectorConfig, spec: EpisodeSpec, player: Player) -> None:
        self._config, self._spec, self._player = config, spec, player
        self._orders: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._others = set(multiprocessing.active_children())
        self._collector: Any = None
        self._weights = SharedMemWeightSyncScheme()  # how they reach processes
        self._rollouts: Iterator[TensorDictBase] = iter(())
        self._starting: Future[None] | None = None
        self._playing: Future[TensorDictBase] | None = None  # what was begun and not yet finished
        self._joined_ray = config.backend == "ray" and join_cluster("collector.backend=ray", "process")[1]
        self._thread = threading.Thread(target=self._work, name="worker-pool", daemon=True)
        self._thread.start()

    def begin(self, state: dict[str, Tensor]) -> None:
        """Has an episode played by each worker, with the player's state as given; the first call starts the workers."""
        assert self._playing is None
        if self._starting is None:
            self._starting = self._ask(self._start)
        self._playing = self._ask(partial(self._play, state))

    def finish(self, meanwhile: Callable[[], None]) -> TensorDictBase:
        """What was begun: each worker's rollout, (workers, steps).

        meanwhile: called several times a second; it may raise.

        Raises:
            LostWorkersError: a worker died, hung or could not begin.
        """
        assert self._starting is not None
        assert self._playing is not None
        playing, self._playing = self._playing, None
        try:
            self._await(self._starting, "begin", meanwhile)
            return self._await(playing, "play an episode", meanwhile)
        except BaseException:  # whatever state the workers are in, nothing is left behind
            self.kill()
            raise

    def close(self) -> None:
        """Ends the workers, within seconds; what they have begun is lost."""
        if self._collector is not None and self._playing is None:
            try:
                self._await(self._ask(partial(self._collector.shutdown, timeout=5)), "end", lambda: None)
            except LostWorkersError as error:
                logging.getLogger(__name__).debug("%s", error)
        self.kill()

    def kill(self) -> None:
        """Ends them at once, including those that are about to begin."""
        if self._config.backend == "ray":
            self._leave_ray()
        self._orders.put(None)
        give_up = time.monotonic() + _END_WITHIN
        while True:
            for child in set(multiprocessing.active_children()) - self._others:
                if type(child).__module__.startswith("torchrl."):  # not one that evaluates, begun after this pool
                    child.kill()
                    child.join()
            # TorchRL waits for ever for a dead worker to confirm its weights: this confirms them in its place.
            for queue in getattr(self._weights, "_ack_queues", {}).values():
                queue.put("updated")
            self._thread.join(_LOOK_EVERY)
            if not self._thread.is_alive() or time.monotonic() > give_up:
                break
        self._collector = None

    def _leave_ray(self) -> None:
        import ray

        if self._collector is not None and ray.is_initialized():
            self._collector.stop_remote_collectors()
        if self._joined_ray:
            ray.shutdown()
            self._joined_ray = False

    # ---- in the pool's own thread

    def _work(self) -> None:
        torch.set_num_threads(1)
        while (order := self._orders.get()) is not None:
            work, future = order
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  whoever waits for the future judges it
                future.set_exception(error)

    def _start(self) -> None:
        common = {
            "frames_per_batch": self._spec.steps * self._config.workers,
            "reset_at_each_iter": True,
            "backend": self._config.backend,
            "num_collectors": self._config.workers,
            "sync": True,
            "collector_class": EpisodeWorker,
        }
        environments = [self._spec.make_env] * self._config.workers
        if self._config.backend == "process":
            local = {
                "total_frames": -1,
                "init_fn": settle_in,
                "num_threads": torch.get_num_threads(),
                "num_sub_threads": 1,
            }
            local["weight_sync_schemes"] = {"policy": self._weights}
            self._collector = Collector(environments, self._player, **common, **APART, **local)
        elif self._config.backend == "ray":
            remote = {
                "total_frames": sys.maxsize,  # here −1 does not mean unlimited
                "collector_kwargs": [dict(APART) for _ in environments],
                "remote_configs": {"num_cpus": 1, "num_gpus": 0, "runtime_env": {"env_vars": _surroundings()}},
                "weight_sync_schemes": {},  # see _play
            }
            self._collector = Collector(environments, self._player, **common, **remote)
        else:
            raise ValueError(f"no workers in backend {self._config.backend!r}")
        warnings.filterwarnings("ignore", message="RayCollector iteration started before weight")  # intended, see _play
        self._rollouts = iter(self._collector)

    def _play(self, state: dict[str, Tensor]) -> TensorDictBase:
        if self._config.backend == "process":
            self._player.load_state_dict(state)
            self._collector.update_policy_weights_(self._player)
        else:
            # TorchRL's scheme for Ray opens torch.distributed's default group, which belongs to the learners of several
            # GPUs, and cannot send kernels that are channels-last.
            self._collector.map_fn("obey", [(state,)] * self._config.workers)
        return next(self._rollouts)

    # ---- waiting for it

    def _ask(self, work: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._orders.put((work, future))
        return future

    def _await(self, future: Future[T], what: str, meanwhile: Callable[[], None]) -> T:
        deadline = time.monotonic() + self._config.timeout
        while not future.done():
            try:
                future.exception(timeout=_LOOK_EVERY)
            except TimeoutError:
                meanwhile()
            self._look_after(what)
            if time.monotonic() > deadline and not future.done():
                raise LostWorkersError(f"did not {what} within collector.timeout={self._config.timeout:g} seconds")
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, UserError):
            raise error
        meanwhile()  # if the run is asked to stop, that is why
        raise LostWorkersError(f"could not {what} ({first_line(error)})") from error

    def _look_after(self, what: str) -> None:
        """TorchRL itself notices a dead process only where it waits for an episode, not where it sends weights."""
        dead = [process.exitcode for process in getattr(self._collector, "procs", ()) if not process.is_alive()]
        if dead and what != "end":
            raise LostWorkersError(f"could not {what} (one ended with exit code {dead[0]})")


def _surroundings() -> dict[str, str]:
    """The environment variables that a worker elsewhere must have before it imports mujoco."""
    return {name: value for name, value in os.environ.items() if name in ("MUJOCO_GL", FOUND)}
