"""How cost grows: time against size, as a power of the size."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from vmil.bench.clock import Times, Work, alternate
from vmil.bench.loose_learner import LooseLearner
from vmil.bench.plan import Shape
from vmil.bench.playing import SIDES, picture_times
from vmil.bench.report import Row, Table, times_row
from vmil.bench.updates import CUDA_WARMUP, prepared
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.learner.device import choose_device

PART = "scaling"
FACTORS = (1, 2, 4)
LIMIT = 1.1  # of the power: above it growth is worse than linear, by more than repeats differ


@dataclass(frozen=True)
class Growth:
    """Seconds at each of several sizes."""

    of: str
    sizes: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def power(self) -> float:
        """p of the fit seconds ∝ size^p, least squares on logarithms; nan of fewer than two sizes."""
        if len(set(self.sizes)) < 2:
            return math.nan
        x, y = [math.log(size) for size in self.sizes], [math.log(seconds) for seconds in self.seconds]
        return statistics.linear_regression(x, y).slope

    @property
    def is_worse_than_linear(self) -> bool:
        """Whether twice the size costs clearly more than twice the time."""
        return self.power > LIMIT


def larger(base: Config, shape: Shape) -> Iterator[tuple[str, list[tuple[int, Config]]]]:
    """What is varied, each time alone: [(size, configuration)], from the smallest batch on."""
    sequences, steps = shape
    training, behaviour = base.training, base.behaviour
    yield (
        "sequences",
        [(f * sequences, replace(base, training=replace(training, batch_size=f * sequences))) for f in FACTORS],
    )
    yield (
        "agent steps",
        [(f * steps, replace(base, training=replace(training, batch_length=f * steps))) for f in FACTORS],
    )
    shortest = max(1, behaviour.horizon // 3)
    horizons = [f * shortest for f in FACTORS]
    yield "horizon", [(h, replace(base, behaviour=replace(behaviour, horizon=h))) for h in horizons]


def measure_scaling(
    table: Table,
    base: Config,
    shape: Shape,
    action: int,
    sampled: Sequence[tuple[int, float]],
    warmup: int,
    repeats: int,
) -> None:
    """Updates against batch, length and horizon, drawing against pixels, and sampling (as measured) against frames."""
    series = list(larger(base, shape))
    updates = _update_times([config for _, cases in series for _, config in cases], action, warmup, repeats)
    found = []
    for of, cases in series:
        for size, config in cases:
            table.add(times_row(PART, f"update, {of} {size}", updates[_name(config)], _name(config)))
        medians = [updates[_name(config)].median for _, config in cases]
        found.append(Growth(f"update with {of}", tuple(size for size, _ in cases), tuple(medians)))
    medians = []
    for side in SIDES:
        times = picture_times(replace(base.env, image_size=side), repeats)
        table.add(times_row(PART, f"picture, {side}×{side}", times, f"{base.env.name}, {base.env.render_profile}"))
        medians.append(times.median)
    found.append(Growth("picture with pixels", tuple(side**2 for side in SIDES), tuple(medians)))
    if len(sampled) > 1:
        sizes, seconds = zip(*sampled, strict=True)
        found.append(Growth("sampling with the replay's frames", sizes, seconds))
    for growth in found:
        low, high = min(growth.sizes), max(growth.sizes)
        table.add(Row(PART, f"power: {growth.of}", growth.power, "", note=f"{low:,} to {high:,}; 1 is linear"))
    table.remark("scaling", statement(found))
    table.remark("image size", "the model is built for 64×64 pictures; other sizes are the baselines' and the cameras'")


def _update_times(configs: Sequence[Config], action: int, warmup: int, repeats: int) -> dict[str, Times]:
    """Updates of each size in turn, so that what disturbs the machine for a while does not look like growth."""
    works: dict[str, Work] = {}
    for config in configs:
        if _name(config) not in works:  # several series may begin at one size
            learner, batch = prepared(config, action, 0)
            works[_name(config)] = partial(_update, learner, batch)
    device = choose_device(configs[0])
    return alternate(works, device, max(warmup, CUDA_WARMUP) if device.type == "cuda" else warmup, repeats)


def _update(learner: LooseLearner, batch: Batch) -> None:
    learner.training_step(batch, 0)
    learner.stages()  # forgotten: they would pile up


def _name(config: Config) -> str:
    return f"{config.training.batch_size}x{config.training.batch_length}, horizon {config.behaviour.horizon}"


def statement(found: Sequence[Growth]) -> str:
    """What, if anything, grows worse than linearly."""
    worse = [f"{growth.of} (power {growth.power:.2f})" for growth in found if growth.is_worse_than_linear]
    if worse:
        return f"grows worse than linearly: {', '.join(worse)}"
    return f"nothing grows worse than linearly: every power is at most {max(g.power for g in found):.2f}"
