"""Processes that learn together, one for each device: which of them this is, and what they tell each other.

With a single process nothing is sent, and every function returns what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from vmil.config.schema import Config
from vmil.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Rank:
    """Number `index` of `count`."""

    index: int = 0
    count: int = 1


ALONE = Rank()


def rank_of(config: Config, environment: Mapping[str, str] | None = None) -> Rank:
    """This process among those of the run, as Lightning, torchrun or srun numbered it when they started it."""
    known = os.environ if environment is None else environment
    count = config.compute.devices * config.compute.nodes
    if count == 1:
        return ALONE
    for name in ("RANK", "SLURM_PROCID"):
        if name in known and started_outside(known):
            return Rank(int(known[name]), count)
    node, local = int(known.get("NODE_RANK", 0)), int(known.get("LOCAL_RANK", 0))
    return Rank(node * config.compute.devices + local, count)


def local_index(config: Config, environment: Mapping[str, str] | None = None) -> int:
    """Which of its node's devices this process computes on, chosen as Lightning chooses it."""
    known = os.environ if environment is None else environment
    if config.compute.devices * config.compute.nodes == 1:
        return 0
    by_srun = _by_srun(known) and "TORCHELASTIC_RUN_ID" not in known  # torchrun has precedence, inside srun too
    return int(known.get("SLURM_LOCALID" if by_srun else "LOCAL_RANK", 0))


def started_outside(environment: Mapping[str, str]) -> bool:
    """Whether torchrun or srun starts all ranks, rather than the first one the others."""
    return "TORCHELASTIC_RUN_ID" in environment or _by_srun(environment)


def _by_srun(environment: Mapping[str, str]) -> bool:
    """As Lightning sees it: in an interactive job's shell, which srun has started itself, the first rank starts all."""
    return "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def rank_seed(seed: int, rank: Rank) -> int:
    """The run's own seed for the first rank, one derived from it for each of the others."""
    return seed if rank.index == 0 else int(np.random.SeedSequence([seed, 0, rank.index]).generate_state(1)[0])


def together() -> int:
    """How many ranks are connected; one before they are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(value: T) -> list[T]:
    """Every rank's value, in rank order; all ranks must call it."""
    if together() == 1:
        return [value]
    values: list[T | None] = [None] * together()
    dist.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def anyone(wishes: bool, device: torch.device) -> bool:
    """Whether any of the ranks wishes it; all ranks must call it."""
    if together() == 1:
        return wishes
    flag = torch.tensor([float(wishes)], device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX)
    return bool(flag.item())


def average_(tensors: Iterable[Tensor]) -> None:
    """Puts the mean over ranks in each tensor's place, in one message; the same float32 tensors on all of them."""
    if together() == 1:
        return
    listed = list(tensors)
    if not listed:
        return
    flat = torch.cat([tensor.detach().flatten() for tensor in listed])
    dist.all_reduce(flat)
    flat /= together()
    for tensor, mean in zip(listed, flat.split([tensor.numel() for tensor in listed]), strict=True):
        tensor.detach().copy_(mean.view_as(tensor))


def states_of_all(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Every rank's state, for one checkpoint; all must call it. UserError on all of them if one cannot make its own."""
    state: dict[str, Any] = {}
    problem = ""
    try:
        state = make()
    except (OSError, UserError) as error:
        problem = str(error) or repr(error)
    everyone = gathered((state, problem))
    for _, problem in everyone:
        if problem:
            raise UserError(problem)
    return {"ranks": [state for state, _ in everyone]}


def every_state(state: dict[str, Any]) -> list[dict[str, Any]]:
    """What each rank put there, one if it was alone."""
    states: list[dict[str, Any]] = state.get("ranks", [state])
    return states


def own_state(state: dict[str, Any], rank: Rank) -> dict[str, Any]:
    """What this rank put there; UserError if the number of ranks was different."""
    states = every_state(state)
    if len(states) != rank.count:
        raise UserError(
            f"the checkpoint is of a run with compute.devices × compute.nodes = {len(states)}, which must stay so: "
            "each of them has a replay of its own"
        )
    return states[rank.index]
