"""Several processes learn together: Lightning starts and connects them, what they exchange is explicit."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed as dist

from vmil.config.schema import Config
from vmil.data.ranks import Rank, anyone, gathered, rank_seed
from vmil.errors import UserError
from vmil.training.checkpoint import InPlace
from vmil.training.stopping import GracefulStop

PATIENCE = timedelta(hours=2)  # for one that evaluates or collects while the others wait


class AllReduce(DDPStrategy):
    """Lightning's processes and connections without its wrapper: `learner.stepping.average_gradients` says why.

    seed: the run's; Lightning would give all ranks the same random numbers.
    """

    def __init__(self, seed: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._seed = seed

    def configure_ddp(self) -> None:
        """All begin with the first one's weights, each with random numbers of its own."""
        torch.manual_seed(rank_seed(self._seed, Rank(self.global_rank, self.world_size)))
        module = self.lightning_module
        assert module is not None
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.data, src=0)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any = None) -> None:
        """The first rank writes; if it cannot, all are told, and none waits for the others."""
        problem: OSError | UserError | None = None
        try:
            super().save_checkpoint(checkpoint, filepath, storage_options)
        except (OSError, UserError) as error:
            problem = error
        told = [said for said in gathered("" if problem is None else str(problem) or repr(problem)) if said]
        if told:
            raise problem or UserError(told[0])


class StopTogether(GracefulStop):
    """A request to stop, to whichever rank, is agreed on after an update, so that all stop after the same one.

    Lightning's own handler of SIGTERM sends a message to the other ranks in the middle of whatever they exchange.
    """

    def __init__(self) -> None:
        super().__init__()
        self._wished = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Takes both signals over; not earlier, because only now Lightning listens."""
        super().on_train_start(trainer, pl_module)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._note)  # at the end Lightning puts back what was there before it

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any) -> None:
        """Asks the others."""
        if anyone(self._wished, pl_module.device):
            trainer._signal_connector.received_sigterm = True  # from here on Lightning does what it does alone

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._wished = True


def placement(config: Config, device: torch.device) -> dict[str, Any]:
    """What Lightning's trainer is told of devices, nodes and how they learn together."""
    asked: dict[str, Any] = {
        "accelerator": "gpu" if device.type == "cuda" else "cpu",
        "devices": config.compute.devices,
        "num_nodes": config.compute.nodes,
    }
    if config.compute.devices * config.compute.nodes == 1:
        return asked | {"plugins": [InPlace()]}
    backend = "nccl" if device.type == "cuda" else "gloo"
    strategy = AllReduce(config.seed, process_group_backend=backend, timeout=PATIENCE, checkpoint_io=InPlace())
    return asked | {"strategy": strategy}
