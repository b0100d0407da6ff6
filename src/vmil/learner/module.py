"""What every algorithm here needs of a LightningModule: manual steps, recorded updates, meters, a clock, a counter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from vmil.config.schema import Config
from vmil.data.collect import LearnerPolicy
from vmil.data.pace import Pace
from vmil.data.ranks import average_
from vmil.data.transition import Batch
from vmil.learner.device import choose_device
from vmil.learner.graphs import CudaRecorder, Readings, RecordedStep, Recorder, Scheduled, alone, use_graphs
from vmil.learner.meters import Means, Stopwatch
from vmil.learner.nonfinite import Attempt, FiniteGuard
from vmil.learner.portable_evaluation import PortableEvaluation
from vmil.learner.stepping import DeviceStepper, HostStepper, Part, Stepper


class ImitationModule(lightning.LightningModule, ABC):
    """An algorithm: `learn` is its update, by the optimisers that it names; two policies act.

    Optimisation is manual, and the callbacks drain the metrics. The clock is `frames`, environment frames so far;
    `updates` counts training steps.

    An update may be recorded once and replayed as one launch (`compute.graphs`), its stages then not timed one by one.
    So nothing in `learn` waits for the device, and what it reads of the run's progress it reads from `scheduled`.
    """

    updates_done: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.int64))
        self.updates = 0  # the same number as a plain int: reading a tensor would make a GPU wait
        self.clock: Pace | None = None  # the data's, which whoever trains this sets
        self.means, self.stopwatch = Means(), Stopwatch()
        self.guard = FiniteGuard(config.training.skip_nonfinite)
        self.stepper: Stepper = HostStepper(self.guard, self)
        self.recorded: RecordedStep | None = None
        self.reward_sample: Tensor | None = None  # of the last update
        self._optimizer_names: tuple[str, ...] = ()
        self._batch: Batch | None = None  # in hand
        self._scheduled: Scheduled | None = None  # set while an update runs that is, or will be, recorded

    # ---- what an algorithm says of itself

    @abstractmethod
    def learn(self, batch: Batch) -> None:
        """One update on a replayed batch."""

    @abstractmethod
    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """New ones by name, each a fused Adam; checkpoints hold their states in this order."""

    @abstractmethod
    def exploration_policy(self) -> LearnerPolicy:
        """Acts for the collector."""

    @abstractmethod
    def evaluation_policy(self) -> LearnerPolicy:
        """Acts for the score: deterministic, its state fresh."""

    def schedules(self) -> dict[str, float]:
        """Every number that `learn` reads and that depends on how far the run is."""
        return {}

    def kind(self) -> Hashable:
        """Which of several branches `learn` takes this time: each is recorded on its own."""
        return None

    def portable_evaluation(self) -> PortableEvaluation:
        """A copy of the evaluation policy as it is now, on the CPU, to be scored in this process or another."""
        return PortableEvaluation(self.evaluation_policy().portable())

    def open_loop_pictures(self, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
        """Truth and the model's open-loop prediction, both (T, B, H, W, 3) uint8; None where there is no model."""
        return None

    # ---- what it learns with

    def step(self, name: str, loss: Tensor, parts: Iterable[Part]) -> None:
        """One step of the optimiser of that name on `loss`, each part clipped by hand.

        Raises:
            NonFiniteError: loss or gradient is not finite, unless `training.skip_nonfinite` leaves such a step out, or
                steps are judged on the device, where `drain_metrics` notices.
        """
        optimizer = self._optimizer(name)
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        self.means.add(self.stepper.step(Attempt(name, self.updates, self._batch), optimizer, loss, parts))

    def scheduled(self, name: str) -> Tensor | float:
        """That of `schedules` now: a float, or in a recorded update a tensor () that each replay sets."""
        return self.schedules()[name] if self._scheduled is None else self._scheduled[name]

    @property
    def frames(self) -> int:
        """Environment frames collected so far."""
        if self.clock is None:
            raise RuntimeError("the learner has no clock to read the collected frames from")
        return self.clock.frames

    def note_reward(self, reward: Tensor) -> None:
        """Measures what an update rewards, of any shape."""
        reward = reward.detach()
        self.reward_sample = _kept(self.reward_sample, reward)
        stats = {"mean": reward.mean(), "std": reward.std(), "min": reward.min(), "max": reward.max()}
        self.means.add({f"reward/{name}": value for name, value in stats.items()})

    # ---- an update

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One update, replayed if it can be."""
        if self.device.type == "cuda" and alone(self.config):
            self.judge_on_device()
        self._batch = batch
        with self.stopwatch.stage("update", self.device):
            if self.recorded is None and use_graphs(self.config, self.device):
                self.record_with(CudaRecorder(self.device))
            if self.recorded is None:
                self.learn(batch)
            else:
                self.means.add(self.recorded(batch, self.schedules(), self.kind()))
        self._batch = None
        self.count_update()

    def count_update(self) -> None:
        """Ends a training step."""
        self.updates += 1
        self.updates_done += 1
        average_(buffer for buffer in self.buffers() if buffer.is_floating_point())  # such as the range of returns

    def record_with(self, recorder: Recorder) -> None:
        """From now on updates are recorded."""
        self.judge_on_device()
        self.recorded = RecordedStep(self._readings, recorder)

    def judge_on_device(self) -> None:
        """From now on no update waits to know whether its gradients are finite."""
        if not isinstance(self.stepper, DeviceStepper):
            before, self.stepper = self.stepper.state_dict(), DeviceStepper(self.guard, self.device)
            self.stepper.load_state_dict(before)

    def _readings(self, batch: Batch, scheduled: Scheduled) -> Readings:
        """What is recorded: an update that reads its schedules from tensors; the means of its own metrics alone."""
        outer, self.means, self._scheduled = self.means, Means(), scheduled
        try:
            self.learn(batch)
            return self.means.now()
        finally:
            self.means, self._scheduled = outer, None

    # ---- the run around it

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """As Lightning takes them: in order, without their names."""
        named = self.make_optimizers()
        self._optimizer_names = tuple(named)
        return list(named.values())

    def on_fit_start(self) -> None:
        """Refuses at once what could only fail later."""
        use_graphs(self.config, choose_device(self.config))

    def on_train_start(self) -> None:
        """A resumed run learns at the configured rates: its checkpoint brought those that it was stopped with."""
        for resumed, configured in zip(self._optimizers(), self.configure_optimizers(), strict=True):
            for group, asked in zip(resumed.param_groups, configured.param_groups, strict=True):
                group.update({name: asked[name] for name in ("lr", "eps", "betas") if name in asked})

    def drain_metrics(self) -> dict[str, float]:
        """Means of everything measured since the last call.

        Raises:
            NonFiniteError: a gradient was not finite, which was noticed only now.
        """
        self.stepper.report(self.updates)
        return self.means.drain() | self.stopwatch.drain()

    def reward_histogram(self) -> np.ndarray | None:
        """The last update's rewards, flat; None before the first, and where nothing is rewarded."""
        return None if self.reward_sample is None else self.reward_sample.flatten().float().cpu().numpy()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what was measured since the last round, and which steps were left out."""
        checkpoint["means"] = self.means.state_dict()
        checkpoint["guard"] = self.guard.state_dict()
        checkpoint["left_out"] = self.stepper.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back, and the update counter as the plain number it is used as."""
        self.means.load_state_dict(checkpoint["means"])
        self.guard.load_state_dict(checkpoint["guard"])
        self.stepper.load_state_dict(checkpoint["left_out"])
        self.updates = int(checkpoint["state_dict"]["updates_done"])

    def _optimizer(self, name: str) -> Any:
        """The optimiser of that name, as Lightning wraps it."""
        live = self._optimizers()
        known = dict(zip(self._optimizer_names, live, strict=True))
        if name not in known:
            raise ValueError(f"there is no optimiser {name!r}: this learner has {', '.join(known)}")
        return known[name]

    def _optimizers(self) -> list[Any]:
        """All of them; Lightning gives a single one as itself."""
        given: Any = self.optimizers()
        return given if isinstance(given, list) else [given]


def _kept(place: Tensor | None, value: Tensor) -> Tensor:
    """`value`, copied to where the last one of its shape lies: recordings share their memory."""
    if place is None or place.shape != value.shape:
        return value.detach().clone()
    return place.copy_(value.detach())
