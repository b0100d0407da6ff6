"""What every algorithm here needs of a LightningModule: manual steps, meters, a counter that survives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from vmil.config.errors import NonFiniteError as NonFiniteError
from vmil.config.schema import Config
from vmil.data.collect import LearnerPolicy
from vmil.data.ranks import average_
from vmil.data.transition import Batch
from vmil.evaluation.rollout import Rollout
from vmil.learner.meters import Means, Stopwatch
from vmil.learner.nonfinite import FiniteGuard
from vmil.learner.portable_evaluation import PortableEvaluation


class Part(NamedTuple):
    """A piece of network whose gradient norm is clipped, and logged as `<name>/grad_norm`, on its own."""

    name: str
    module: nn.Module
    clip: float


class ImitationModule(lightning.LightningModule, ABC):
    """Manual optimisation with several optimisers, metrics drained by the callbacks.

    The clock is `frames`: environment frames so far, kept by the data module; `updates` counts training steps.
    """

    updates_done: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.config = config
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.int64))
        self.updates = 0  # the same number as a plain int: reading a tensor would make a GPU wait
        self.means, self.stopwatch = Means(), Stopwatch()
        self.guard = FiniteGuard(config.training.skip_nonfinite)
        self._batch: object = None  # in hand: evidence, if it leads to a non-finite value (NaN or inf)

    @property
    def frames(self) -> int:
        """Environment frames collected so far."""
        return int(getattr(getattr(self._trainer, "datamodule", None), "frames", 0))

    def step(self, name: str, optimizer: int, loss: Tensor, parts: Iterable[Part]) -> None:
        """One step of the optimiser of that index on `loss`, each part clipped by hand.

        Raises:
            NonFiniteError: loss or gradient is not finite, unless `training.skip_nonfinite` leaves such a step out.
        """
        chosen = listed(self.optimizers())[optimizer]
        chosen.zero_grad(set_to_none=True)
        self.manual_backward(loss)
        loss = average_gradients(chosen.param_groups, loss)
        norms = {
            f"{part.name}/grad_norm": nn.utils.clip_grad_norm_(part.module.parameters(), part.clip) for part in parts
        }
        self.means.add({key: norm.detach() for key, norm in norms.items()})
        if self.guard.allows(name, self.updates, loss, norms, self, self._batch):
            chosen.step()

    @abstractmethod
    def exploration_policy(self) -> LearnerPolicy:
        """Acts for the collector."""

    @abstractmethod
    def evaluation_policy(self) -> LearnerPolicy:
        """Acts for the score: deterministic, its state fresh."""

    def portable_evaluation(self) -> PortableEvaluation:
        """The evaluation policy as it is now, for another process."""
        return PortableEvaluation(self.evaluation_policy().portable())

    def evaluation_metrics(self, rollout: Rollout) -> dict[str, float]:
        """What else an evaluation by the last evaluation policy shows, besides the score."""
        return {}

    def reward_histogram(self) -> np.ndarray | None:
        """The last update's rewards, flat; None before the first, and where nothing is rewarded."""
        return None

    def open_loop_pictures(self, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
        """Truth and the model's open-loop prediction, both (T, B, H, W, 3) uint8; None where there is no model."""
        return None

    def on_train_start(self) -> None:
        """A resumed run learns at the configured rates: its checkpoint brought those that it was stopped with."""
        live, fresh = (listed(some) for some in (self.optimizers(), self.configure_optimizers()))
        for resumed, configured in zip(live, fresh, strict=True):
            for group, asked in zip(resumed.param_groups, configured.param_groups, strict=True):
                group.update({name: asked[name] for name in ("lr", "eps", "betas") if name in asked})

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Keeps the batch at hand."""
        self._batch = batch

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Releases it."""
        self._batch = None

    def count_update(self) -> None:
        """Ends a training step."""
        self.updates += 1
        self.updates_done += 1
        average_(buffer for buffer in self.buffers() if buffer.is_floating_point())  # such as the range of returns

    def drain_metrics(self) -> dict[str, float]:
        """Means of everything measured since the last call."""
        return self.means.drain() | self.stopwatch.drain()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what was measured since the last round, and which steps were left out."""
        checkpoint["means"] = self.means.state_dict()
        checkpoint["guard"] = self.guard.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes it back, and the update counter as the plain number it is used as."""
        self.means.load_state_dict(checkpoint.get("means", {}))  # older checkpoints lack it, and the guard's
        self.guard.load_state_dict(checkpoint.get("guard", {}))
        self.updates = int(checkpoint["state_dict"]["updates_done"])


def average_gradients(groups: Iterable[dict[str, Any]], loss: Tensor) -> Tensor:
    """Gives each gradient its mean over the ranks, in place; gives the losses' mean, ().

    Explicitly, and not by DistributedDataParallel: that averages in hooks of the backward pass, and expects one of
    those, not three, after each of its forward passes, through which an update here does not go.
    """
    mean = loss.detach().float().clone()
    average_([mean, *(p.grad for group in groups for p in group["params"] if p.grad is not None)])
    return mean


def listed(optimizers: Any) -> list[Any]:
    """One optimiser or several, as Lightning gives and takes them, always as a list."""
    return list(optimizers) if isinstance(optimizers, (list, tuple)) else [optimizers]
