"""VMIL on batches of noise, without a Trainer: an update's cost does not depend on what is in the pictures."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vmil.config.learners import expert_columns
from vmil.config.schema import Config
from vmil.data.pace import Pace
from vmil.data.transition import Batch
from vmil.learner.device import choose_device
from vmil.training.vmil import VMIL

OPTIMISER = "optimiser"  # the stage that this module adds to the learner's own


class LooseLearner(VMIL):
    """VMIL that holds its own optimisers, on the configured device."""

    def __init__(self, config: Config, action_size: int, proprio_size: int = 0) -> None:
        super().__init__(config, action_size, proprio_size)
        self.clock = Pace(config)  # which stands still
        self.to(choose_device(config))
        self._held = [self._watched(optimizer) for optimizer in self.configure_optimizers()]

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """Model's, discriminator's, actor and critic's."""
        return self._held

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """As Lightning would, in the number format that the step itself chose."""
        loss.backward(*args, **kwargs)

    def stages(self) -> dict[str, float]:
        """Seconds in each stage since the last call, summed over its visits; forgets the metrics too."""
        visits = dict(self.stopwatch.counts)
        means = {name.removeprefix("time/"): seconds for name, seconds in self.stopwatch.drain().items()}
        self.means.drain()
        return {name: seconds * visits[name] for name, seconds in means.items()}

    def _watched(self, optimizer: Optimizer) -> Optimizer:
        """Times its steps, which lie inside the learner's stages."""
        running: list[AbstractContextManager[None]] = []

        def begin(*_: Any) -> None:
            if not _capturing():
                running.append(self.stopwatch.stage(OPTIMISER, self.device))
                running[-1].__enter__()

        def end(*_: Any) -> None:
            if running:
                running.pop().__exit__(None, None, None)

        optimizer.register_step_pre_hook(begin)
        optimizer.register_step_post_hook(end)
        return optimizer


def noise_batch(config: Config, action_size: int, proprio_size: int, device: torch.device) -> Batch:
    """A batch of noise of the configured size, (T, B, …), on the device; the run's share of it is the expert's."""
    training = config.training
    shape = (training.batch_length, training.batch_size)
    generator = torch.Generator().manual_seed(config.seed)
    batch = Batch(
        image=torch.randint(0, 256, (*shape, 64, 64, 3), dtype=torch.uint8, generator=generator),
        proprio=torch.randn(*shape, proprio_size, generator=generator) if proprio_size else None,
        action=2 * torch.rand(*shape, action_size, generator=generator) - 1,
        is_first=torch.zeros(shape, dtype=torch.bool),
        terminated=torch.zeros(shape, dtype=torch.bool),
        num_experts=expert_columns(training.batch_size, training.demo_fraction, config.debug.use_ground_truth_reward),
    )
    return batch.to(device)


def _capturing() -> bool:
    """Whether a CUDA graph is being recorded, which cannot hold a clock."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
