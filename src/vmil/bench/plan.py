"""What is measured: the parts of the table, and the configurations that the settings lead to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vmil.config import keys
from vmil.config.commands import split_known
from vmil.config.learners import traits
from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.config.schema_cli import BenchOptions
from vmil.config.sources import SELECTORS
from vmil.errors import UserError
from vmil.system.cuda import cuda_present, takes_gpu

PARTS = (
    "update", "floor", "memory", "end_to_end", "acting", "rendering", "environment", "collection", "workers",
    "sampling", "scaling",
)  # fmt: skip
SIZES = tuple(
    f"{group}.{leaf}"
    for group, leaves in {
        "world_model": ("deter", "stoch", "hidden", "depth"),
        "discriminator": ("units", "layers"),
        "behaviour": ("horizon", "actor_units", "actor_layers", "critic_units", "critic_layers"),
    }.items()
    for leaf in leaves
)
ROUND = ("training.frames_per_epoch", "training.updates_per_epoch")
SMALLEST, SMALL_BATCH, GPU_BATCHES = (8, 25), (16, 50), ((16, 64), (50, 50), (128, 50))
Shape = tuple[int, int]  # sequences, agent steps of each


@dataclass(frozen=True)
class Plan:
    """What the settings ask for."""

    options: BenchOptions
    parts: tuple[str, ...]
    run: Config  # the preset, with its own batch
    paper: dict[str, Config]  # the paper's method and sizes, by the name of the batch
    smallest: tuple[Config, Shape] | None  # where the scaling table begins, if there is to be one

    def has(self, part: str) -> bool:
        """Whether it is to be measured."""
        return part in self.parts


def make_plan(overrides: Sequence[str]) -> Plan:
    """Reads the settings; UserError in one sentence if one is wrong."""
    groups = ("env", "demos", "collector", "compute", "seed")
    read = [name for name in SELECTORS if name != "tracking"]
    read += [key for key in keys.leaves(Config) if key.partition(".")[0] in groups or key in (*SIZES, *ROUND)]
    options, rest = split_known(BenchOptions, overrides, read)
    run = load_config(rest)
    if not traits(run).dreams:
        raise UserError(f"algo={run.algo} has no model to measure: take one of vmil, vmil_plus, vmil_released")
    parts = _parts(options.parts)
    shapes = _shapes("batches", options.batches) if options.batches else _fitting(_default_shapes(run), run)
    paper = {f"{sequences}x{steps}": paper_config(rest, (sequences, steps)) for sequences, steps in shapes}
    smallest = _shapes("scaling", options.scaling) if options.scaling else _fitting([SMALLEST], run)
    if len(smallest) > 1:
        raise UserError(f"scaling={options.scaling} must be one batch, such as 8x25")
    scaling = (paper_config(rest, smallest[0]), smallest[0]) if "scaling" in parts else None
    return Plan(options, parts, run, paper, scaling)


def paper_config(overrides: Sequence[str], shape: Shape, *more: str) -> Config:
    """The schema's own defaults, which are the paper's method and sizes, on a batch of this shape."""
    batch = [f"training.batch_size={shape[0]}", f"training.batch_length={shape[1]}", "behaviour.dream_starts=0"]
    try:
        return load_config([*overrides, *batch, *more], preset=False)
    except UserError as error:
        raise UserError(f"a batch of {shape[0]}x{shape[1]}: {error}") from error


def _default_shapes(config: Config) -> list[Shape]:
    return [SMALL_BATCH, *(GPU_BATCHES if takes_gpu(config.compute.device, cuda_present) else ())]


def _fitting(shapes: Sequence[Shape], config: Config) -> list[Shape]:
    """No longer than an episode of the task."""
    longest = config.env.episode_frames // config.env.action_repeat
    return [(sequences, min(steps, longest)) for sequences, steps in shapes]


def _shapes(key: str, text: str) -> list[Shape]:
    shapes = []
    for item in text.split(","):
        found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", item.strip())
        if found is None:
            raise UserError(f"{key}={text} is not of the form 16x50,50x50: sequences x agent steps")
        shapes.append((int(found[1]), int(found[2])))
    return shapes


def _parts(text: str | None) -> tuple[str, ...]:
    if text is None:
        return PARTS
    asked = [item.strip() for item in text.split(",")]
    for name in asked:
        if name not in PARTS:
            raise UserError(f"unknown part '{name}' (known: {', '.join(PARTS)}){keys.nearest(name, PARTS)}")
    return tuple(name for name in PARTS if name in asked)
