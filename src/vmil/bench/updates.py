"""What an update takes, stage by stage, beside the reference's."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from vmil.bench.clock import Times, once
from vmil.bench.equality import Difference, compare, make_reference, worst
from vmil.bench.loose_learner import OPTIMISER, LooseLearner, noise_batch
from vmil.bench.report import Row, Table, milliseconds, times_row
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.learner.device import choose_device, matmul_precision

PART = "update"
NOTES = {
    "model": "filtering of agent and expert, ELBO",
    "dream": "",
    "discriminator": "",
    "behaviour": "",
    OPTIMISER: "within the stages above",
}
REST = "expert triples, reward, what is watched of them"
CUDA_WARMUP = 6  # updates in which libraries choose kernels and graphs are recorded


@dataclass(frozen=True)
class Updates:
    """Seconds of each repeated update, and of its stages; of the reference's, where it ran in turn."""

    whole: Times
    stages: dict[str, Times]
    reference: Times | None


def measure(learner: LooseLearner, batch: Batch, warmup: int, repeats: int, against: bool = False) -> Updates:
    """Times updates, the reference's in between if it is to be compared `against`."""
    whole: list[float] = []
    plain: list[float] = []
    stages: dict[str, list[float]] = defaultdict(list)
    reference = make_reference(learner) if against else None
    if learner.device.type == "cuda":
        warmup = max(warmup, CUDA_WARMUP)
    for index in range(warmup + repeats):
        seconds = once(lambda: learner.training_step(batch, 0), learner.device)
        parts = learner.stages()
        if reference is not None:
            with matmul_precision("highest"):  # PyTorch's default, with which a plain program runs
                plain.append(once(lambda: reference.update(batch), learner.device))
        if index >= warmup:
            whole.append(seconds)
            for name, value in parts.items():
                stages[name].append(value)
    found = {name: Times(tuple(values)) for name, values in stages.items() if name != "update"}
    return Updates(Times(tuple(whole)), found, Times(tuple(plain[warmup:])) if against else None)


def add_updates(table: Table, name: str, updates: Updates) -> None:
    """The rows of one batch."""
    for stage, times in sorted(updates.stages.items(), key=lambda item: _position(item[0])):
        table.add(times_row(PART, f"{name}: {stage}", times, NOTES.get(stage, "")))
    stages = [times.seconds for stage, times in updates.stages.items() if stage != OPTIMISER]
    if stages and all(len(times) == len(updates.whole.seconds) for times in stages):
        rest = [whole - sum(parts) for whole, *parts in zip(updates.whole.seconds, *stages, strict=True)]
        table.add(milliseconds(PART, f"{name}: rest", rest, REST))
    elif not stages:
        table.remark(f"stages {name}", "its stages run as one recorded graph and are not timed one by one")
    table.add(times_row(PART, f"{name}: whole update", updates.whole))
    if updates.reference is not None:
        table.add(times_row(PART, f"{name}: reference", updates.reference, "eager fp32, NCHW, one step at a time"))
        table.add(ratio_row(f"{name}: reference / ours", updates))


def ratio_row(what: str, updates: Updates) -> Row:
    """How many times as fast as the reference, which ran in turn: each repeat against its own neighbour."""
    assert updates.reference is not None
    ratios = [theirs / ours for ours, theirs in zip(updates.whole.seconds, updates.reference.seconds, strict=True)]
    return Row(PART, what, statistics.median(ratios), "x", min(ratios), max(ratios), len(ratios))


def _position(stage: str) -> int:
    known = list(NOTES)
    return known.index(stage) if stage in known else known.index(OPTIMISER)


@dataclass(frozen=True)
class Findings:
    """What the other parts of the table, and the exit code, need from this one."""

    equal: bool  # ours and the reference
    seconds: dict[str, float]  # of an update of the paper's sizes, by batch


def measure_updates(
    table: Table, paper: Mapping[str, Config], run: Config, sizes: tuple[int, int], warmup: int, repeats: int
) -> Findings:
    """The paper's sizes at each batch beside the reference, and the preset at its own.

    sizes: of the task's action and of the vector observation that the preset reads.
    """
    action, proprio = sizes
    equal, seconds = True, {}
    for name, config in paper.items():
        learner, batch = prepared(config, action, 0)
        updates = measure(learner, batch, warmup, repeats, against=True)
        add_updates(table, name, updates)
        seconds[name] = updates.whole.median
        found = differences(config, action)
        equal = equal and all(difference.ok for difference in found)
        table.remark(f"equality {name}", verdict(found))
    learner, batch = prepared(run, action, proprio)
    name = f"{run.algo} {run.training.batch_size}x{run.training.batch_length}"
    add_updates(table, name, measure(learner, batch, warmup, repeats))
    return Findings(equal, seconds)


def prepared(config: Config, action: int, proprio: int) -> tuple[LooseLearner, Batch]:
    """An untrained learner and a batch for it."""
    torch.manual_seed(config.seed)
    return LooseLearner(config, action, proprio), noise_batch(config, action, proprio, choose_device(config))


def comparable(config: Config, action: int) -> tuple[LooseLearner, Batch]:
    """A learner in fp32 of which every term of the losses and every weight has a gradient, and a batch for it.

    Without free nats, with an entropy bonus, and with random numbers in the layers that begin at zero, which would
    silence those below.
    """
    exact = replace(
        config,
        compute=replace(config.compute, precision="fp32"),
        world_model=replace(config.world_model, free_nats=0.0),
        behaviour=replace(config.behaviour, entropy=1e-3),
    )
    learner, batch = prepared(exact, action, 0)
    for weight in learner.parameters():
        if weight.requires_grad and weight.dim() > 1 and not weight.any():
            nn.init.normal_(weight, std=0.1)
    return learner, batch


def differences(config: Config, action: int) -> list[Difference]:
    """Our first update against the reference's, from the same weights and noise, in fp32."""
    learner, batch = comparable(config, action)
    return compare(learner, make_reference(learner), batch, config.seed)


def verdict(found: list[Difference]) -> str:
    """One sentence on the comparison."""
    furthest, losses = worst(found), sum(not difference.name.startswith("gradient of") for difference in found)
    looked = f"{losses} losses and norms, {len(found) - losses} gradients, in fp32 from the same noise"
    size = f"{furthest.name} differs by {furthest.relative:.1e}, tolerance {furthest.tolerance:.0e}"
    if all(difference.ok for difference in found):
        return f"equal to the reference ({looked}; at most {size})"
    return f"NOT EQUAL to the reference: {size}"
