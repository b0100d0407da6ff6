"""Knobs become the networks that they name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vmil.behaviour.actor import ClippedNormal, TanhNormal
from vmil.config.load import load_config
from vmil.training.build import build_actor

SCALES = ("behaviour.init_std=0.3", "behaviour.min_std=0.1", "behaviour.max_std=0.5")


@pytest.mark.parametrize(
    ("policy", "family", "std"), [("tanh_normal", TanhNormal, 0.4), ("clipped_normal", ClippedNormal, 0.3)]
)
def test_the_policy_that_is_configured_is_built(policy: str, family: type, std: float) -> None:
    actor = build_actor(load_config(["compute=debug", f"behaviour.policy={policy}", *SCALES]), 5, 2)
    distribution = actor(torch.randn(3, 5))
    assert type(distribution) is family
    torch.testing.assert_close(distribution.std, torch.full((3, 2), std))  # the tanh normal's floor is added


def test_a_policy_that_is_none_is_refused() -> None:
    config = load_config(["compute=debug"])
    other = replace(config, behaviour=replace(config.behaviour, policy="beta"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown policy 'beta'"):
        build_actor(other, 5, 2)
