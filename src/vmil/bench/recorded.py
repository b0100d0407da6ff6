"""The update as one recorded graph: whether it is the eager one, and what it takes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vmil.bench.child_process import in_own_process
from vmil.bench.clock import Times
from vmil.bench.loose_learner import LooseLearner
from vmil.bench.report import Table, times_row
from vmil.bench.updates import PART, Findings, measure, prepared
from vmil.config.schema import Config
from vmil.errors import UserError
from vmil.learner.device import choose_device
from vmil.learner.graphs import WARM_UP, CudaRecorder, Recorder, use_graphs
from vmil.training.assembly import prepare_torch

UPDATES = 2 * WARM_UP + 10  # of each of a run's two kinds of batch: all warm-up, the recording, four replays
FLOOR = 1e-4  # share of the way the weights went, below which a difference is rounding
SPREADS = 3  # how many times as far apart as two eager runs a recorded one may be


class Agreement(NamedTuple):
    """How far the weights of two runs of a few updates are apart, as a share of the way that they went."""

    recorded: float  # a recorded run and an eager one
    eager: float  # two eager ones: a GPU adds up in no fixed order
    same_noise: bool  # whether both kinds have drawn the same random numbers

    @property
    def ok(self) -> bool:
        """Whether a recorded run is an eager one as far as two of those are one."""
        return self.same_noise and self.recorded <= max(FLOOR, SPREADS * self.eager)

    def __str__(self) -> str:
        judged = "equal" if self.ok else "NOT EQUAL"
        noise = "the same" if self.same_noise else "OTHER"
        return (
            f"{judged} to eager updates (weights {self.recorded:.1e} of their way apart, of two eager runs "
            f"{self.eager:.1e}; {noise} random numbers)"
        )


@dataclass(frozen=True)
class Recorded:
    """Seconds of each repeated update, and whether such updates are the eager ones."""

    whole: Times
    agreement: Agreement


def measure_recorded(
    table: Table, paper: Mapping[str, Config], found: Findings, action: int, warmup: int, repeats: int
) -> Findings:
    """The paper's sizes recorded, on a GPU where a run would make them stage by stage; what is known with that."""
    equal, seconds = found.equal, dict(found.seconds)
    for name, config in paper.items():
        device = choose_device(config)
        if device.type == "cuda" and not use_graphs(config, device):
            recorded = add_recorded(table, name, config, action, warmup, repeats)
            if recorded is not None:
                equal = equal and recorded.agreement.ok
                seconds[name] = min(seconds[name], recorded.whole.median)
    return Findings(equal, seconds)


def add_recorded(table: Table, name: str, config: Config, action: int, warmup: int, repeats: int) -> Recorded | None:
    """The row of the update recorded as one graph, where a run would make it stage by stage; None if it cannot be.

    In a process of its own: one in which a recording fails is of no further use.
    """
    try:
        found = in_own_process(time_recorded, config, action, warmup, repeats)
    except (UserError, RuntimeError, BrokenProcessPool) as error:  # of a kernel, or of the process
        table.remark(f"recorded {name}", f"NOT RECORDED: {str(error).partition(chr(10))[0]}")
        return None
    table.add(times_row(PART, f"{name}: whole update, recorded", found.whole, "compute.graphs=always"))
    table.remark(f"recorded {name}", str(found.agreement))
    return found


def time_recorded(config: Config, action: int, warmup: int, repeats: int) -> Recorded:
    """Compares, then times; UserError if the update cannot be recorded."""
    prepare_torch(config)
    agreement = compare_recorded(replace(config, compute=replace(config.compute, graphs="never")), action, CudaRecorder)
    recorded = replace(config, compute=replace(config.compute, graphs="always"))
    return Recorded(measure(*prepared(recorded, action, 0), warmup, repeats).whole, agreement)


def compare_recorded(config: Config, action: int, recorder: Callable[[torch.device], Recorder]) -> Agreement:
    """Trains three times from the same weights and noise: eagerly, eagerly, and recorded."""
    (eager, start, noise), (again, _, _), (recorded, _, recorded_noise) = (
        _train(config, action, make) for make in (None, None, recorder)
    )
    way = (eager - start).norm()
    return Agreement(
        float((recorded - eager).norm() / way), float((again - eager).norm() / way), torch.equal(noise, recorded_noise)
    )


def _train(
    config: Config, action: int, recorder: Callable[[torch.device], Recorder] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """All weights after and before, flat, and the random state after."""
    gc.collect()  # the learner before: its optimisers' hooks hold it in a circle
    learner, batch = prepared(config, action, 0)
    if recorder is not None:
        learner.record_with(recorder(learner.device))
    pretraining = replace(batch, num_experts=config.training.batch_size)
    start = _weights(learner)
    torch.manual_seed(config.seed)
    for update in range(UPDATES):
        learner.training_step(batch if update % 2 else pretraining, update)
    cuda = learner.device.type == "cuda"
    return _weights(learner), start, torch.cuda.get_rng_state(learner.device) if cuda else torch.get_rng_state()


def _weights(learner: LooseLearner) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in learner.parameters()])
