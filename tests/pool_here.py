"""A pool of workers in this process: what they do is tested without the seconds that processes take to begin."""

from __future__ import annotations

import copy
from collections.abc import Callable

from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from vmil.config.schema import CollectorConfig
from vmil.data.players import EpisodeWorker, Player
from vmil.data.worker_pool import APART, EpisodeSpec


class Here:
    """A pool in this process."""

    def __init__(self, config: CollectorConfig, spec: EpisodeSpec, player: Player) -> None:
        options = {"frames_per_batch": spec.steps, "total_frames": -1, "reset_at_each_iter": True, **APART}
        self.workers = [
            EpisodeWorker(spec.make_env, copy.deepcopy(player), worker_idx=index, **options)
            for index in range(config.workers)
        ]
        self.rollouts = [iter(worker) for worker in self.workers]
        self.waves = 0

    def begin(self, state: dict[str, Tensor]) -> None:
        self.waves += 1
        for worker in self.workers:
            worker.obey(state)

    def finish(self, meanwhile: Callable[[], None]) -> TensorDictBase:
        return TensorDict.maybe_dense_stack([next(rollouts) for rollouts in self.rollouts], 0)

    def close(self) -> None:
        for worker in self.workers:
            worker.shutdown()
