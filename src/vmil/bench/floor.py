"""The arithmetic of an update, and how fast this machine could do it if it did nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from vmil.bench.clock import repeat
from vmil.bench.equality import make_reference
from vmil.bench.report import Row, Table
from vmil.bench.updates import measure, prepared
from vmil.config.schema import Config
from vmil.learner.device import choose_device, use_bf16, use_bf16_products

PART = "floor"
SIDES = (512, 1024, 2048, 4096, 8192, 16384)  # of the matrices; the best rate is the machine's
LONGEST = 0.5  # seconds of a product, beyond which larger matrices are left out


class FlopCount(TorchDispatchMode):
    """Counts the multiplications and additions inside it, by operation, with torch's own formulas.

    `FlopCounterMode` itself also follows modules, by hooks that forbid the discriminator's double backward.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.counts[str(func.overloadpacket)] += formula(*args, **(kwargs or {}), out_val=result)
        return result


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of one update, forward, backward and the penalty's second backward."""

    convolutions: float
    rest: float

    @property
    def total(self) -> float:
        """Both."""
        return self.convolutions + self.rest


def count_flops(config: Config, action: int) -> Flops:
    """FLOPs of the reference's update: those of the mathematics, whatever a faster form skips or fuses."""
    learner, batch = prepared(config, action, 0)
    reference = make_reference(learner)
    with FlopCount() as counter:
        reference.update(batch)
    convolutions = sum(count for operation, count in counter.counts.items() if "convolution" in operation)
    return Flops(float(convolutions), float(counter.counts.total() - convolutions))


def matrix_rate(dtype: torch.dtype, device: torch.device, repeats: int) -> float:
    """The best rate of a square matrix product [FLOP/s], with the number formats that a run allows."""
    best = 0.0
    for side in SIDES:
        matrix = torch.randn(side, side, device=device).to(dtype)
        seconds = repeat(partial(torch.matmul, matrix, matrix), device, 1, repeats).median
        best = max(best, 2 * side**3 / seconds)
        if seconds > LONGEST / 8:  # the next one takes eight times as long
            break
    return best


def measure_floor(
    table: Table, paper: Mapping[str, Config], action: int, updates: Mapping[str, float], repeats: int
) -> None:
    """How long the multiplications of each batch would take at full speed, and how far the update is from that.

    updates: seconds of those that were measured already, by batch.
    """
    some = next(iter(paper.values()))
    device = choose_device(some)
    convolved = torch.bfloat16 if use_bf16(some, device) else torch.float32
    multiplied = torch.bfloat16 if use_bf16_products(some, device) else torch.float32
    rates = {dtype: matrix_rate(dtype, device, repeats) for dtype in dict.fromkeys((torch.float32, convolved))}
    for dtype, rate in rates.items():
        table.add(Row(PART, f"matrix product, {_name(dtype, device)}", rate / 1e9, "GFLOP/s"))
    for name, config in paper.items():
        flops = count_flops(config, action)
        share = f"{100 * flops.convolutions / flops.total:.0f} % of it convolutions"
        table.add(Row(PART, f"{name}: arithmetic of an update", flops.total / 1e9, "GFLOP", note=share))
        seconds = flops.convolutions / rates[convolved] + flops.rest / rates[multiplied]
        note = f"convolutions in {_name(convolved, device)}, the rest in {_name(multiplied, device)}"
        table.add(Row(PART, f"{name}: floor", 1000 * seconds, "ms", note=note))
        ours = updates[name] if name in updates else measure(*prepared(config, action, 0), 1, repeats).whole.median
        table.add(Row(PART, f"{name}: whole update / floor", ours / seconds, "x"))


def _name(dtype: torch.dtype, device: torch.device) -> str:
    """A GPU multiplies single precision as TF32, as in training."""
    single = dtype == torch.float32 and device.type == "cuda"
    return "TF32" if single else str(dtype).removeprefix("torch.")
