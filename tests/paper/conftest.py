"""Small networks for the tests of the paper's rooms."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tiny_models import MakeModel

from vmil.world_model.model import WorldModel, make_latent


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_model() -> MakeModel:
    """A factory of tiny world models."""

    def make(
        latent: Literal["gaussian", "categorical"] = "gaussian",
        norm: Literal["none", "layer"] = "layer",
        proprio: int = 0,
        reward_head: bool = False,
    ) -> WorldModel:
        return WorldModel(
            action_size=2,
            proprio_size=proprio,
            latent=make_latent(latent, stoch=4, classes=3, min_std=0.1, unimix=0.01),
            deter=8,
            hidden=16,
            depth=2,
            activation="silu",
            norm=norm,
            proprio_hidden=8,
            reward_head=reward_head,
            bf16=False,
        )

    return make
