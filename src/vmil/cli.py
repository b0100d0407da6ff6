"""The command line: `python -m vmil <command> key=value ...`, which is what every Makefile target calls.

Settings are validated before anything heavy is imported, so that a wrong one is answered at once.
"""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from vmil.config import keys
from vmil.config.commands import with_config
from vmil.config.errors import NonFiniteError, StoppedError, UserError
from vmil.config.load import build, load_config, load_saved_config, parse_dotlist, presets, to_yaml
from vmil.config.runs import CONFIG_FILE, find_pretrained, find_run
from vmil.config.schema import Config, TrackingConfig
from vmil.config.schema_cli import (
    DemosOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExpertOptions,
    ExportOptions,
    FiguresOptions,
    ImportOptions,
    NotebooksOptions,
    PlannedDemosOptions,
    PlannedExpertOptions,
    PublishOptions,
    RunOptions,
    ShipOptions,
    UiOptions,
)

OK, FAILED, MISUSED, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143  # exit codes; the shell's for Ctrl-C and SIGTERM
SQLITE = "sqlite:///"
CARD_EPISODES = 10  # that a shipped policy is measured over, at least
T = TypeVar("T")


def train(overrides: Sequence[str]) -> int:
    """Train from the start."""
    config = load_config(overrides)
    _prepare_rendering(config)
    from vmil.algorithms import make_learner
    from vmil.training import run

    run.train(config, make_learner)
    return OK


def resume(overrides: Sequence[str]) -> int:
    """Go on with a run that was stopped."""
    options, rest = _split(RunOptions, overrides)
    directory = find_run(options.run, Path(options.root))
    _prepare_rendering(load_saved_config(directory / CONFIG_FILE, rest))  # both complain before torch is imported
    from vmil.algorithms import make_learner
    from vmil.training import run

    run.resume(directory, make_learner, rest)
    return OK


def evaluate(overrides: Sequence[str]) -> int:
    """Score a run, or a policy that came with vmil, over fresh episodes and film it."""
    options = _options(EvaluateOptions, overrides)
    _at_least_one("episodes", options.episodes)
    if options.pretrained is None:
        directory = find_run(options.run, Path(options.root))
        video = directory / "videos" / "evaluation.mp4"
    elif options.run == "latest":
        directory = find_pretrained(options.pretrained)
        video = Path(f"{Path(options.pretrained).name.replace(':', '-')}-evaluation.mp4")
    else:
        raise UserError(f"run={options.run} and pretrained={options.pretrained} are two things to evaluate: give one")
    video = Path(options.video) if options.video else video
    config = load_saved_config(directory / CONFIG_FILE)
    _prepare_rendering(config)
    episodes = _episodes(options.episodes, config)
    from vmil.algorithms import make_learner

    if options.pretrained is None:
        from vmil.training.run import evaluate_run

        evaluate_run(directory, make_learner, episodes, video)
    else:
        from vmil.training.pretrained import evaluate_pretrained

        evaluate_pretrained(directory, make_learner, episodes, video)
    return OK


def ship(overrides: Sequence[str]) -> int:
    """Make a run's policy one that ships with vmil: weights, configuration, card."""
    options = _options(ShipOptions, overrides)
    directory = find_run(options.run, Path(options.root))
    config = load_saved_config(directory / CONFIG_FILE)
    episodes = _episodes(options.episodes, config)
    if episodes < CARD_EPISODES:
        raise UserError(f"episodes={episodes} is outside [{CARD_EPISODES}, inf): a card tells the mean of that many")
    _prepare_rendering(config)
    from vmil.algorithms import make_learner
    from vmil.analysis.ship import ship_run

    print(f"shipped as {ship_run(directory, make_learner, options, episodes)}")
    return OK


def expert(overrides: Sequence[str]) -> int:
    """Train a state-based expert, or measure one that needs no training."""
    planned = _plans(overrides)
    options = _options(PlannedExpertOptions, overrides) if planned else _options(ExpertOptions, overrides)
    from vmil.experts import commands

    print(commands.prepare(options))
    return OK


def demos(overrides: Sequence[str]) -> int:
    """Record demonstrations of an expert."""
    options = _options(PlannedDemosOptions if _plans(overrides) else DemosOptions, overrides)
    _at_least_one("count", options.count)
    from vmil.experts import commands

    print(commands.record(options))
    return OK


def _plans(overrides: Sequence[str]) -> bool:
    """Whether the expert of this environment plans, and so has the knobs of a planner."""
    return "env=baoding" in overrides


def import_demos(overrides: Sequence[str]) -> int:
    """Convert demonstrations of another maker, and verify them."""
    options, config = with_config(ImportOptions, overrides, ("env",))
    _prepare_rendering(config)
    from vmil.experts import import_demos as command

    command.import_demos(options, config)
    return OK


def export_demos(overrides: Sequence[str]) -> int:
    """Write demonstrations in a format that other software reads."""
    options, config = with_config(ExportOptions, overrides, ("env", "demos", "seed"))
    _prepare_rendering(config)
    from vmil.experts import export_demos as command

    command.export_demos(options, config)
    return OK


def ui(overrides: Sequence[str]) -> int:
    """Show the tracked runs in a browser; on this machine only, unless host= says otherwise."""
    options = _options(UiOptions, overrides)
    if not 0 < options.port < 65536:
        raise UserError(f"port={options.port} is outside [1, 65535]")
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("MLflow is not installed: each run's metrics.csv holds its numbers")
    from vmil.tracking.tracker import tracking_uri

    uri = tracking_uri(TrackingConfig(uri=options.uri), Path(options.root))
    if uri.startswith("http"):
        raise UserError(f"the runs are tracked by a server already: open {uri}")
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise UserError(f"no run is tracked in '{uri.removeprefix(SQLITE)}' yet: start one with `make train`")
    command = ["-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", options.host, "--port", str(options.port)]
    os.execv(sys.executable, [sys.executable, *command])


def bench(overrides: Sequence[str]) -> int:
    """Measure how fast everything is here, beside a plain reference."""
    from vmil.bench.plan import make_plan

    plan = make_plan(overrides)
    _prepare_rendering(plan.run)
    from vmil.bench.command import run_bench

    return OK if run_bench(plan, overrides) else FAILED


def doctor(overrides: Sequence[str]) -> int:
    """Say what this machine has and whether it can render."""
    if overrides:
        raise UserError("doctor takes no settings")
    from vmil.doctor import examine

    return OK if examine(print) else FAILED


def show_config(overrides: Sequence[str]) -> int:
    """Print the configuration that these settings resolve to."""
    print(to_yaml(load_config(overrides)), end="")
    return OK


def experiment(overrides: Sequence[str]) -> int:
    """Work off a grid of runs, resuming what was stopped and skipping what is done."""
    options, rest = _split(ExperimentOptions, overrides)
    from vmil.experiments.run import run_experiment

    return OK if run_experiment(options, rest) else FAILED


def publish(overrides: Sequence[str]) -> int:
    """Put a run's numbers, and what made them, beside the notebooks."""
    options = _options(PublishOptions, overrides)
    directory = find_run(options.run, Path(options.root))
    if options.latents:
        _prepare_rendering(load_saved_config(directory / CONFIG_FILE))
    from vmil.analysis.publish import publish_run

    print(f"published as {publish_run(directory, options)}")
    return OK


def figures(overrides: Sequence[str]) -> int:
    """Draw every figure as PNG and PDF."""
    options = _options(FiguresOptions, overrides)
    from vmil.analysis.figures import save_figures

    for line in save_figures(Path(options.out), options.source):
        print(line)
    return OK


def notebooks(overrides: Sequence[str]) -> int:
    """Run the notebooks from top to bottom, in place."""
    options = _options(NotebooksOptions, overrides)
    from vmil.analysis.notebooks import execute_all

    for path in execute_all(options.path, options.source):
        print(path)
    return OK


class Command(NamedTuple):
    """A subcommand: what it does and an example of what may follow it."""

    run: Callable[[Sequence[str]], int]
    example: str


COMMANDS: dict[str, Command] = {
    "train": Command(train, "env=walker algo=vmil seed=0 world_model.deter=256"),
    "resume": Command(resume, "run=latest"),
    "evaluate": Command(evaluate, "run=latest episodes=10 video=walk.mp4"),
    "ship": Command(ship, 'run=latest note="three seeds, this is the best"'),
    "expert": Command(expert, "env=walker seed=0"),
    "demos": Command(demos, "env=walker count=10 action_noise=0.2"),
    "import-demos": Command(import_demos, "env=walker src=episodes/"),
    "export-demos": Command(export_demos, "env=walker format=minari out=walker-minari"),
    "experiment": Command(experiment, 'name=figure3 seeds="0 1 2" budget=60000'),
    "publish": Command(publish, 'run=latest note="stopped early"'),
    "figures": Command(figures, "out=figures"),
    "notebooks": Command(notebooks, "source=mlflow"),
    "ui": Command(ui, "port=5000"),
    "bench": Command(bench, "batches=16x50,50x50 repeats=5 out=bench.json"),
    "doctor": Command(doctor, ""),
    "config": Command(show_config, "env=walker algo=vmil"),
}


class Parser(argparse.ArgumentParser):
    """Complains as everything else here does: in one sentence."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="vmil", description=sys.modules["vmil"].__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    groups = "; ".join(f"{group}: {', '.join(presets(group))}" for group in ("env", "algo", "compute"))
    for name, command in COMMANDS.items():
        about = command.run.__doc__ or ""
        example = f"example: vmil {name} {command.example}".rstrip()
        sub = commands.add_parser(name, help=about, description=about, epilog=f"{example}. Presets: {groups}.")
        sub.add_argument("settings", nargs="*", metavar="key=value", help="`vmil config` prints every key of a run")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 misused, 130 or 143 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            wrong = arguments[0]
            raise UserError(f"unknown command '{wrong}' (known: {', '.join(COMMANDS)}){keys.nearest(wrong, COMMANDS)}")
        parsed = make_parser().parse_args(arguments or ["--help"])
        return COMMANDS[parsed.command].run(parsed.settings)
    except UserError as error:
        return _complain(str(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _complain(f"no space left on the disk for '{error.filename or 'a file'}': free some, then resume")
    except NonFiniteError as error:
        print(f"vmil: {error}", file=sys.stderr)
        return FAILED
    except StoppedError as error:
        print(f"vmil: {error}", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("vmil: interrupted", file=sys.stderr)
        return INTERRUPTED


def _prepare_rendering(config: Config) -> None:
    """Choose OpenGL before torchrl is imported: that imports mujoco, where a wrong MUJOCO_GL ends in a traceback."""
    from vmil.envs.rendering import prepare_rendering  # light: numpy only

    prepare_rendering(config.env)


def _complain(sentence: str) -> int:
    print(f"vmil: {sentence}", file=sys.stderr)
    return MISUSED


def _options(schema: type[T], overrides: Sequence[str]) -> T:
    return build(schema, parse_dotlist(schema, overrides))


def _split(schema: type[T], overrides: Sequence[str]) -> tuple[T, list[str]]:
    """Take the keys of `schema` out of `overrides`; the rest is for the run's configuration."""
    own = keys.leaves(schema)
    mine = [item for item in overrides if item.partition("=")[0] in own]
    return _options(schema, mine), [item for item in overrides if item not in mine]


def _episodes(asked: int | None, config: Config) -> int:
    return max(CARD_EPISODES, config.training.eval_episodes) if asked is None else asked


def _at_least_one(key: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UserError(f"{key}={value} is outside [1, inf)")
