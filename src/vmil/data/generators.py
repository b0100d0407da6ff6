"""Torch's global random generators: learner and policy draw from them in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def global_states() -> dict[str, Any]:
    """The processor's and every GPU's."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_global_states(states: Mapping[str, Any]) -> None:
    """Goes on from there, on as many GPUs as there are."""
    torch.set_rng_state(states["cpu"].cpu())
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state.cpu(), index)
