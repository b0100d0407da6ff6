"""Torch's global random generators, from which learner and policy draw in turn, and seeds for those of others."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch

Stream = Literal["replay", "demos", "random actions"]
_NUMBERS: dict[Stream, int] = {"replay": 1, "demos": 2, "random actions": 3}  # arbitrary, but distinct and fixed


def stream_seed(seed: int, stream: Stream) -> int:
    """A seed of its own for each random stream of a run."""
    return int(np.random.SeedSequence([seed, _NUMBERS[stream]]).generate_state(1)[0])


def global_states() -> dict[str, Any]:
    """The states of the CPU's and every GPU's generator."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_global_states(states: Mapping[str, Any]) -> None:
    """Restores them, on as many GPUs as there are."""
    torch.set_rng_state(states["cpu"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)


@contextmanager
def isolated_generators() -> Iterator[None]:
    """The block changes no global generator, torch's, NumPy's or Python's, however it ends.

    Lightning's `isolate_rng` restores nothing after an exception, when a checkpoint may yet be saved.
    """
    own, numpys, pythons = global_states(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        set_global_states(own)
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
