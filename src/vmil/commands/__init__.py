"""The subcommands of `python -m vmil`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from vmil.commands import demonstrations, machine, results, runs
from vmil.config.schema_cli import (
    BenchOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExportOptions,
    FiguresOptions,
    ImportOptions,
    NotebooksOptions,
    PublishOptions,
    RunOptions,
    ShipOptions,
    UiOptions,
)


class Command(NamedTuple):
    """A subcommand: what it does, an example of what may follow it, and which settings it takes."""

    run: Callable[[Sequence[str]], int]
    example: str
    own: Mapping[str, type] = MappingProxyType({})  # its options, by the task that they are of; "": any other task
    reads: str = ""  # keys of a run's configuration that it takes besides; `env.*`: all of that group
    groups: tuple[str, ...] = ()  # whose presets it chooses from


PRESETS = ("env", "algo", "compute")
BENCH_READS = (
    "env env.* algo demos.* collector.* compute compute.* seed world_model.deter world_model.stoch world_model.hidden "
    "world_model.depth discriminator.units discriminator.layers behaviour.horizon behaviour.actor_units "
    "behaviour.actor_layers behaviour.critic_units behaviour.critic_layers training.frames_per_epoch "
    "training.updates_per_epoch"
)
GRID_READS = "all but seed training.frames env.name run.* tracking.experiment tracking.parent"

COMMANDS: dict[str, Command] = {
    "train": Command(runs.train, "env=walker algo=vmil seed=0 world_model.deter=256", reads="all", groups=PRESETS),
    "resume": Command(runs.resume, "run=latest", {"": RunOptions}, "all but env algo env.* seed learner", ("compute",)),
    "evaluate": Command(runs.evaluate, "run=latest episodes=10 video=walk.mp4", {"": EvaluateOptions}),
    "ship": Command(runs.ship, 'run=latest note="three seeds, this is the best"', {"": ShipOptions}),
    "expert": Command(demonstrations.expert, "env=walker seed=0", demonstrations.EXPERTS, groups=("env",)),
    "demos": Command(
        demonstrations.demos, "env=walker count=10 action_noise=0.2", demonstrations.RECORDED, groups=("env",)
    ),
    "import-demos": Command(
        demonstrations.import_demos,
        "env=walker src=episodes/",
        {"": ImportOptions},
        "env env.* algo training.batch_length",
        ("env", "algo"),
    ),
    "export-demos": Command(
        demonstrations.export_demos,
        "env=walker format=minari out=walker-minari",
        {"": ExportOptions},
        "env env.* demos.* seed",
        ("env",),
    ),
    "experiment": Command(
        results.experiment,
        'name=figure3 seeds="0 1 2" budget=60000',
        {"": ExperimentOptions},
        GRID_READS,
        PRESETS,
    ),
    "publish": Command(results.publish, 'run=latest note="stopped early"', {"": PublishOptions}),
    "figures": Command(results.figures, "out=figures", {"": FiguresOptions}),
    "notebooks": Command(results.notebooks, "source=mlflow", {"": NotebooksOptions}),
    "ui": Command(results.ui, "port=5000", {"": UiOptions}),
    "bench": Command(
        machine.bench, "batches=16x50,50x50 repeats=5 out=bench.json", {"": BenchOptions}, BENCH_READS, PRESETS
    ),
    "doctor": Command(machine.doctor, ""),
    "config": Command(runs.show_config, "env=walker algo=vmil", reads="all", groups=PRESETS),
}
