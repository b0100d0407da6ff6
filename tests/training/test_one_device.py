"""An update computes on its device alone: on torch's device without data here, on which a GPU's faults show too.

Nothing is moved there from the CPU, no operation takes tensors of two devices, and none asks for a value.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vmil.algorithms import make_learner
from vmil.config.load import load_config
from vmil.data.pace import Pace
from vmil.data.transition import Batch

B, A, META = 4, 3, torch.device("meta")
SMALL = ("env=counting", "compute=debug", f"training.batch_size={B}")


class OneDevice(TorchDispatchMode):
    """Refuses operations that read or make a tensor elsewhere."""

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        _require_meta(str(func), tree_leaves((args, kwargs, out)))
        return out


def _require_meta(what: str, leaves: Iterable[Any]) -> None:
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.device != META:
            raise AssertionError(f"{what} has a tensor of shape {tuple(leaf.shape)} on {leaf.device}")


@pytest.fixture(autouse=True)
def _like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets torch do there what it does on a GPU and forbids here: autocast, and a fused Adam."""
    autocast = torch.autocast
    monkeypatch.setattr(torch, "autocast", lambda device, **options: autocast("cuda", **(options | {"enabled": False})))
    adam = sys.modules[torch.optim.Adam.__module__]
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)


def make_batch(length: int, size: int, experts: int, proprio: int) -> Batch:
    return Batch(
        image=torch.zeros(length, B, size, size, 3, dtype=torch.uint8, device=META),
        proprio=torch.zeros(length, B, proprio, device=META) if proprio else None,
        action=torch.zeros(length, B, A, device=META),
        is_first=torch.zeros(length, B, dtype=torch.bool, device=META),
        terminated=torch.zeros(length, B, dtype=torch.bool, device=META),
        num_experts=experts,
    )


@pytest.mark.parametrize(
    "options",
    [
        ["algo=vmil"],
        ["algo=vmil", "discriminator.noise=annealed", "behaviour.normalise=returns", "world_model.latent=categorical"],
        ["algo=vmil", "discriminator.spectral_norm=true", "discriminator.updates=2", "behaviour.actor_average=0.1"],
        ["algo=vmil", "env.proprio=true"],
        ["algo=vmil_released"],
        ["algo=vmil_plus", "behaviour.cloning_decay_updates=2"],
        ["algo=vmil_plus", "discriminator.prior_next_state=true", "discriminator.replay_negatives=true"],
        ["algo=vmil_plus", "discriminator.dream_negatives=false", "discriminator.replay_negatives=true"],
        ["algo=sqil_drq"],
        ["algo=dac_drq"],
        ["algo=bc"],
    ],
    ids=" ".join,
)
def test_an_update_computes_on_its_device_alone(options: list[str]) -> None:
    config = load_config([*SMALL, *options])
    proprio = 5 if config.env.proprio else 0
    learner = make_learner(config, A, proprio).to(META)
    learner.clock = Pace(config)
    optimizers = learner.configure_optimizers()
    object.__setattr__(learner, "optimizers", lambda: optimizers)
    object.__setattr__(learner, "manual_backward", lambda loss: loss.backward())
    learner.judge_on_device()
    experts = round(B * config.training.demo_fraction)
    batch = make_batch(config.training.batch_length, config.env.image_size, experts, proprio)
    with OneDevice():
        for update in range(2 if config.learner.endswith("drq") else 1):  # DrQ moves its actor in one of two
            learner.training_step(batch, update)


def test_what_strays_is_found() -> None:
    place = torch.zeros(3, device=META)
    for stray in (lambda: place[torch.tensor([0, 1])], lambda: place.copy_(torch.ones(3)), lambda: torch.zeros(2)):
        with OneDevice(), pytest.raises(AssertionError, match="on cpu"):
            stray()
    with OneDevice(), pytest.raises(RuntimeError):
        place.sum().item()
