"""A learner small enough to take steps without a Trainer, and a batch for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vmil.data.transition import Batch

T, B, EXPERTS, A = 6, 4, 2, 3
SMALL = ("env=counting", "compute=debug", "training.batch_length=6", "behaviour.horizon=3", "compute.precision=fp32")


def make_batch(proprio: int = 0, reward: bool = False, experts: int = EXPERTS) -> Batch:
    generator = torch.Generator().manual_seed(7)
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0, 0] = True
    return Batch(
        image=torch.randint(0, 256, (T, B, 64, 64, 3), dtype=torch.uint8, generator=generator),
        proprio=torch.randn(T, B, proprio, generator=generator) if proprio else None,
        action=torch.rand(T, B, A, generator=generator) * 2 - 1,
        is_first=is_first,
        terminated=torch.zeros(T, B, dtype=torch.bool),
        num_experts=experts,
        reward=torch.rand(T, B, generator=generator) if reward else None,
    )


def snapshot(module: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in module.parameters()]


def changed(module: nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(snapshot(module), before, strict=True))
