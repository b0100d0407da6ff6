"""From a file in `conf/experiment` to the runs that it asks for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml

from vmil.config import keys, validate
from vmil.config.learners import unread
from vmil.config.load import load_config
from vmil.config.runs import BASE, run_name
from vmil.config.schema import Config
from vmil.config.schema_baselines import LearnerKind
from vmil.config.schema_cli import ExperimentOptions
from vmil.config.sources import conf_dir
from vmil.errors import UserError, first_line

# What a cell sets itself, or what changes no result: a run is the same run whatever stands there.
APART = re.compile(r"run\..*|tracking\..*|compute\..*|training\.frames|demos\.cache_dir")
OWN = re.compile(r"env|env\.name|algo|seed|training\.frames|run\..*|tracking\.(experiment|parent)")

INSTEAD = {
    "training.frames": "say budget={0} (make: BUDGET={0})",
    "seed": 'say seeds="0 1 2" (make: SEEDS="0 1 2")',
}  # of what a cell sets itself, what the experiment's own options say; {0}: the value that was given


@dataclass(frozen=True)
class Cell:
    """One run of a grid: what it is called, which settings ask for it, and what they resolve to."""

    env: str
    algo: str
    variant: str
    seed: int
    settings: tuple[str, ...]  # key=value, in the order in which they count
    config: Config

    @property
    def name(self) -> str:
        """Its run directory: experiments that share a cell share its run."""
        return run_name(self.env, self.algo, self.variant, self.seed)


@dataclass(frozen=True)
class Block:
    """Tasks × algorithms × variants; a variant is a name and what it sets."""

    env: tuple[str, ...]
    algo: tuple[str, ...]
    variants: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Request:
    """What a person asks of a grid: which part of it, how often, how long, and with which other settings."""

    seeds: tuple[int, ...]
    env: tuple[str, ...] = ()  # empty: all
    algo: tuple[str, ...] = ()
    budget: int | None = None  # environment frames
    overrides: tuple[str, ...] = ()


def make_request(options: ExperimentOptions, overrides: Sequence[str]) -> Request:
    """What the command line asks of the grid; UserError for seeds that are no numbers."""
    seeds = options.seeds.replace(",", " ").split()
    for seed in seeds:
        if not seed.isdecimal():
            raise UserError(f"seeds={options.seeds}: '{seed}' is not a whole number")
    return Request(
        seeds=tuple(int(seed) for seed in seeds),
        env=tuple((options.env or "").replace(",", " ").split()),
        algo=tuple((options.algo or "").replace(",", " ").split()),
        budget=options.budget,
        overrides=tuple(overrides),
    )


def experiments() -> list[str]:
    """Names of the experiments."""
    return sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))


def read_grid(name: str) -> list[Block]:
    """The blocks of `conf/experiment/<name>.yaml`; UserError if it is not there, or not such a file."""
    known = experiments()
    if name not in known:
        raise UserError(f"unknown experiment '{name}' (known: {', '.join(known)}){keys.nearest(name, known)}")
    path = conf_dir() / "experiment" / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"experiment/{path.name} cannot be read ({first_line(error)})") from error
    if not isinstance(content, dict) or set(content) != {"grid"} or not isinstance(content["grid"], list):
        raise UserError(f"experiment/{path.name} must hold `grid`, a list of blocks, and nothing else")
    return [_block(entry, f"experiment/{path.name}") for entry in content["grid"]]


def expand(name: str, request: Request) -> list[Cell]:
    """Every run of an experiment, all of the first seed first; raises UserError if no run could be made of it."""
    for item in request.overrides:
        key, _, value = item.partition("=")
        if OWN.fullmatch(key):
            raise UserError(f"{key} is set by the experiment: {INSTEAD.get(key, 'leave it out').format(value)}")
    blocks = read_grid(name)
    _check_part("env", request.env, [env for block in blocks for env in block.env])
    _check_part("algo", request.algo, [algo for block in blocks for algo in block.algo])
    if not request.seeds:
        raise UserError('an experiment needs at least one seed, such as seeds="0 1 2"')
    cells: dict[str, Cell] = {}
    for block in blocks:
        for cell in _cells(block, request.seeds[0], request, f"experiment/{name}.yaml"):
            if cells.setdefault(cell.name, cell).config != cell.config:
                raise UserError(f"experiment/{name}.yaml asks for two different runs called {cell.name}")
    if not cells:
        raise UserError(
            f"experiment/{name}.yaml has no run of {' or '.join(request.env)} with {' or '.join(request.algo)}"
        )
    for item in request.overrides:
        if not any(item in cell.settings for cell in cells.values()):
            raise UserError(f"{item.partition('=')[0]} changes nothing here: no learner of these runs reads it")
    return [_with_seed(cell, seed) for seed in dict.fromkeys(request.seeds) for cell in cells.values()]


def essence(config: Config) -> dict[str, keys.Scalar]:
    """What identifies a run: every setting that its learner reads, but its place, its machine and its budget."""
    idle = unread(config.learner)
    return {key: value for key, value in keys.flatten(config).items() if not (key in idle or APART.fullmatch(key))}


def _cells(block: Block, seed: int, request: Request, source: str) -> Iterator[Cell]:
    for env in block.env:
        for algo in block.algo:
            if (request.env and env not in request.env) or (request.algo and algo not in request.algo):
                continue
            seen: list[dict[str, keys.Scalar]] = []
            for variant, own in block.variants.items():
                cell = _cell(env, algo, variant, seed, own, request, source)
                if essence(cell.config) not in seen:  # else it equals the preset
                    seen.append(essence(cell.config))
                    yield cell


def _cell(
    env: str, algo: str, variant: str, seed: int, own: Mapping[str, object], request: Request, source: str
) -> Cell:
    for item in request.overrides:
        if (key := item.partition("=")[0]) in own:
            raise UserError(f"{key} is what {source} varies in '{variant}': leave it out, or choose another experiment")
    settings = [f"env={env}", f"algo={algo}", f"seed={seed}", f"run.variant={variant}"]
    settings += [f"{key}={keys.typed(value)}" for key, value in own.items()]
    if request.budget is not None:
        settings.append(f"training.frames={request.budget}")
    try:
        idle = unread(_learner(algo))
        settings += [item for item in request.overrides if item.partition("=")[0] not in idle]
        config = load_config(settings)
    except UserError as error:
        raise UserError(f"{source}, {run_name(env, algo, variant, seed)}: {error}") from error
    if config.tracking.kind == "none":
        raise UserError("an experiment reads from run.json what is done: tracking.kind=none keeps none")
    return Cell(env, algo, variant, seed, tuple(settings), config)


@cache
def _learner(algo: str) -> LearnerKind:
    return load_config([f"algo={algo}"]).learner


def _with_seed(cell: Cell, seed: int) -> Cell:
    """The same cell with another seed; composing its configuration anew would take a tenth of a second."""
    config = replace(cell.config, seed=seed)
    validate.check(config)
    settings = tuple(f"seed={seed}" if item.startswith("seed=") else item for item in cell.settings)
    return replace(cell, seed=seed, settings=settings, config=config)


def _block(entry: Any, source: str) -> Block:
    if not isinstance(entry, dict) or not {"env", "algo"} <= set(entry) <= {"env", "algo", "variants"}:
        raise UserError(f"{source}: a block of the grid has `env`, `algo` and perhaps `variants`")
    variants = entry.get("variants", {BASE: {}})
    if not isinstance(variants, dict) or not all(isinstance(own, dict) for own in variants.values()):
        raise UserError(f"{source}: `variants` holds names, and for each the settings it changes")
    return Block(_names(entry["env"], source), _names(entry["algo"], source), variants)


def _names(value: Any, source: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise UserError(f"{source}: `env` and `algo` are lists of names")
    return tuple(value)


def _check_part(what: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for name in wanted:
        if name not in known:
            listed = ", ".join(dict.fromkeys(known))
            raise UserError(f"{what}='{name}' is not in this experiment ({listed}){keys.nearest(name, known)}")
