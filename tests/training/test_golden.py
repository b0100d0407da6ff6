"""Three training steps of each VMIL preset, in numbers that were written down: no change of what is learnt is silent.

Where a change is meant to, `UPDATE_GOLDEN=1 python -m pytest tests/training/test_golden.py` writes them down anew; the
difference of `golden.json` then belongs in the same commit, with the reason in its message.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.data.pace import Pace
from vmil.data.transition import Batch
from vmil.training.vmil import VMIL

GOLDEN = Path(__file__).with_name("golden.json")
PRESETS = ("vmil_plus", "vmil", "vmil_released")
T, B, EXPERTS, A, STEPS = 6, 4, 2, 3, 3
TOLERANCE = 1e-3  # relative; another processor's rounding, amplified by three steps, stays far below it


class Alone(VMIL):
    """A learner that trains without a Trainer, before the first frame."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, A, 0)
        self.clock = Pace(config)
        self._made = self.configure_optimizers()

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self._made

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()


def make_batch() -> Batch:
    generator = torch.Generator().manual_seed(7)
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0, 0] = True
    return Batch(
        image=torch.randint(0, 256, (T, B, 64, 64, 3), dtype=torch.uint8, generator=generator),
        proprio=None,
        action=torch.rand(T, B, A, generator=generator) * 2 - 1,
        is_first=is_first,
        terminated=torch.zeros(T, B, dtype=torch.bool),
        num_experts=EXPERTS,
        reward=None,
    )


def moved(part: nn.Module, before: list[Tensor]) -> float:
    """Length of the way that a part's weights went."""
    ways = [(after.detach() - weight).flatten() for after, weight in zip(part.parameters(), before, strict=True)]
    return float(torch.cat(ways).norm())


def steps(preset: str) -> dict[str, float]:
    """Means of every metric over the steps, but for shares of rows, which rounding may turn; how far each part went."""
    torch.manual_seed(0)
    small = ("env=counting", "compute=debug", f"training.batch_length={T}", "compute.precision=fp32")
    learner = Alone(load_config([*small, f"algo={preset}"]))
    parts = {name: part for name, part in learner.named_children() if any(p.requires_grad for p in part.parameters())}
    before = {name: [weight.detach().clone() for weight in part.parameters()] for name, part in parts.items()}
    for _ in range(STEPS):
        learner.learn(make_batch())
        learner.count_update()
    means = {name: mean for name, mean in learner.means.drain().items() if not name.endswith("accuracy")}
    return means | {f"moved/{name}": moved(part, before[name]) for name, part in parts.items()}


@pytest.mark.parametrize("preset", PRESETS)
def test_three_steps_are_those_that_were_written_down(preset: str) -> None:
    found = {name: float(f"{value:.6g}") for name, value in sorted(steps(preset).items())}
    if os.environ.get("UPDATE_GOLDEN"):
        known = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
        GOLDEN.write_text(json.dumps(known | {preset: found}, indent=1, sort_keys=True) + "\n")
    golden = json.loads(GOLDEN.read_text())[preset]
    assert set(found) == set(golden)
    assert found == pytest.approx(golden, rel=TOLERANCE, abs=1e-6)
