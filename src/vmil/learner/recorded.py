"""An algorithm whose whole update, optimisers included, can be recorded as one CUDA graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.learner.device import choose_device
from vmil.learner.graphs import CudaRecorder, Dials, Readings, RecordedStep, Recorder, alone, clip_and_step, use_graphs
from vmil.learner.meters import Means
from vmil.learner.module import ImitationModule, NonFiniteError, Part, listed
from vmil.learner.nonfinite import PATIENCE, LeftOut


def kept(place: Tensor | None, value: Tensor) -> Tensor:
    """`value`, copied to where the last one of its shape lies: recordings share their memory."""
    if place is None or place.shape != value.shape:
        return value.detach().clone()
    return place.copy_(value.detach())


class RecordedModule(ImitationModule):
    """`learn` is the update; what it reads of the run's progress it reads from `dial`, and nothing in it waits.

    Where updates are recorded (`compute.graphs`), their stages are not timed one by one. On a GPU nobody waits to see
    whether a gradient is finite: a step whose gradient is not is left out, and noticed when the metrics are drained.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.recorded: RecordedStep | None = None
        self.reward_sample: Tensor | None = None  # of the last update
        self._dials: Dials | None = None  # set while an update runs that is, or will be, recorded
        self._left_out: LeftOut | None = None  # set where steps are judged on the device
        self._left_out_before: dict[str, list[float]] = {}  # its state in the checkpoint that the run goes on from

    @abstractmethod
    def learn(self, batch: Batch) -> None:
        """One update on a replayed batch."""

    def schedules(self) -> dict[str, float]:
        """Every number that `learn` reads and that depends on how far the run is."""
        return {}

    def kind(self) -> Hashable:
        """Which of several branches `learn` takes this time: each is recorded on its own."""
        return None

    def dial(self, name: str) -> Tensor | float:
        """That number now: a float, or in a recorded update a tensor () that each replay sets."""
        return self.schedules()[name] if self._dials is None else self._dials[name]

    def note_reward(self, reward: Tensor) -> None:
        """Measures what an update rewards, of any shape."""
        reward = reward.detach()
        self.reward_sample = kept(self.reward_sample, reward)
        stats = {"mean": reward.mean(), "std": reward.std(), "min": reward.min(), "max": reward.max()}
        self.means.add({f"reward/{name}": value for name, value in stats.items()})

    def reward_histogram(self) -> np.ndarray | None:
        """The last update's rewards, flat; None before the first, and where nothing is rewarded."""
        return None if self.reward_sample is None else self.reward_sample.flatten().float().cpu().numpy()

    def on_fit_start(self) -> None:
        """Refuses at once what could only fail later."""
        use_graphs(self.config, choose_device(self.config))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One update, replayed if it can be."""
        if self.device.type == "cuda" and alone(self.config):
            self.judge_on_device()
        with self.stopwatch.stage("update", self.device):
            if self.recorded is None and use_graphs(self.config, self.device):
                self.record_with(CudaRecorder(self.device))
            if self.recorded is None:
                self.learn(batch)
            else:
                self.means.add(self.recorded(batch, self.schedules(), self.kind()))
        self.count_update()

    def record_with(self, recorder: Recorder) -> None:
        """From now on updates are recorded."""
        self.judge_on_device()
        self.recorded = RecordedStep(self._readings, recorder)

    def judge_on_device(self) -> None:
        """From now on no update waits to know whether its gradients are finite."""
        if self._left_out is None:
            self._left_out = LeftOut(self.device)
            self._left_out.load_state_dict(self._left_out_before)

    def _readings(self, batch: Batch, dials: Dials) -> Readings:
        outer, self.means, self._dials = self.means, Means(), dials
        try:
            self.learn(batch)
            return self.means.now()
        finally:
            self.means, self._dials = outer, None

    def step(self, name: str, optimizer: int, loss: Tensor, parts: Iterable[Part]) -> None:
        """As its parent's, but without waiting for the device where steps are judged there."""
        if self._left_out is None:
            super().step(name, optimizer, loss, parts)
            return
        wrapped: Any = listed(self.optimizers())[optimizer]
        chosen: torch.optim.Optimizer = getattr(wrapped, "optimizer", wrapped)  # what Lightning wraps
        chosen.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        self.means.add(clip_and_step(chosen, parts, self._left_out.of(name)))

    def drain_metrics(self) -> dict[str, float]:
        """Means of everything measured since the last call.

        Raises:
            NonFiniteError: a gradient was not finite, unless `training.skip_nonfinite` allows it for a while.
        """
        for name, (count, in_a_row) in ({} if self._left_out is None else self._left_out.read()).items():
            error = NonFiniteError(
                f"the gradient of the {name} loss was not finite in {count} of the updates before update "
                f"{self.updates}, the last {in_a_row} in a row; these steps were left out"
            )
            if not self.config.training.skip_nonfinite or in_a_row >= PATIENCE:
                raise error
            self.guard.leave_out(error, self.updates, count)
        return super().drain_metrics()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the steps that were left out on the device and not reported yet."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["left_out"] = self._left_out_before if self._left_out is None else self._left_out.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back, once steps are judged there."""
        super().on_load_checkpoint(checkpoint)
        self._left_out_before = checkpoint.get("left_out", {})  # older checkpoints lack it
