"""The subcommands of `python -m vmil`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from vmil.commands import demonstrations, machine, results, runs


class Command(NamedTuple):
    """A subcommand: what it does and an example of what may follow it."""

    run: Callable[[Sequence[str]], int]
    example: str


COMMANDS: dict[str, Command] = {
    "train": Command(runs.train, "env=walker algo=vmil seed=0 world_model.deter=256"),
    "resume": Command(runs.resume, "run=latest"),
    "evaluate": Command(runs.evaluate, "run=latest episodes=10 video=walk.mp4"),
    "ship": Command(runs.ship, 'run=latest note="three seeds, this is the best"'),
    "expert": Command(demonstrations.expert, "env=walker seed=0"),
    "demos": Command(demonstrations.demos, "env=walker count=10 action_noise=0.2"),
    "import-demos": Command(demonstrations.import_demos, "env=walker src=episodes/"),
    "export-demos": Command(demonstrations.export_demos, "env=walker format=minari out=walker-minari"),
    "experiment": Command(results.experiment, 'name=figure3 seeds="0 1 2" budget=60000'),
    "publish": Command(results.publish, 'run=latest note="stopped early"'),
    "figures": Command(results.figures, "out=figures"),
    "notebooks": Command(results.notebooks, "source=mlflow"),
    "ui": Command(results.ui, "port=5000"),
    "bench": Command(machine.bench, "batches=16x50,50x50 repeats=5 out=bench.json"),
    "doctor": Command(machine.doctor, ""),
    "config": Command(runs.show_config, "env=walker algo=vmil"),
}
