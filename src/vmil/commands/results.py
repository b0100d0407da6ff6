"""Many runs and their results: experiment, publish, figures, notebooks, ui."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence

from vmil.commands.settings import prepare_opengl
from vmil.config.commands import options_of, split
from vmil.config.load import load_saved_config
from vmil.config.runs import CONFIG_FILE, find_run
from vmil.config.schema import TrackingConfig
from vmil.config.schema_cli import ExperimentOptions, FiguresOptions, NotebooksOptions, PublishOptions, UiOptions
from vmil.errors import FAILED, OK, UserError
from vmil.system.paths import given_path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def experiment(overrides: Sequence[str]) -> int:
    """Run a grid of runs, resuming what was stopped and skipping what is done."""
    options, rest = split(ExperimentOptions, overrides)
    from vmil.experiments.grid import expand, make_request

    cells = expand(options.name, make_request(options, rest))  # complains before torch is imported
    from vmil.experiments.run import run_experiment

    return OK if run_experiment(options, cells) else FAILED


def publish(overrides: Sequence[str]) -> int:
    """Put a run's numbers, and what made them, beside the notebooks."""
    options = options_of(PublishOptions, overrides)
    directory = find_run(options.run, given_path("root", options.root))
    if options.latents:
        prepare_opengl(load_saved_config(directory / CONFIG_FILE))
    from vmil.analysis.publish import publish_run

    print(f"published as {publish_run(directory, options)}")
    return OK


def figures(overrides: Sequence[str]) -> int:
    """Draw every figure as PNG and PDF."""
    options = options_of(FiguresOptions, overrides)
    _check_source(options.source)
    from vmil.analysis.figures import save_figures

    for line in save_figures(given_path("out", options.out), options.source):
        print(line)
    return OK


def notebooks(overrides: Sequence[str]) -> int:
    """Run the notebooks from top to bottom, in place."""
    options = options_of(NotebooksOptions, overrides)
    _check_source(options.source)
    from vmil.analysis.notebooks import execute_all

    for path in execute_all(options.path, options.source):
        print(path)
    return OK


def _check_source(source: str | None) -> None:
    """UserError for a directory of results that is not there, before matplotlib and torch are imported."""
    from vmil.analysis.results import MLFLOW

    if source and source != MLFLOW and "://" not in source and not given_path("source", source).is_dir():
        raise UserError(f"'{source}' is not a directory of results")


def ui(overrides: Sequence[str]) -> int:
    """Show the tracked runs in a browser; on this machine only, unless host= says otherwise."""
    options = options_of(UiOptions, overrides)
    if importlib.util.find_spec("mlflow") is None:
        raise UserError("MLflow is not installed: each run's metrics.csv holds its numbers")
    from vmil.tracking.address import shown, sqlite_file, tracking_uri

    uri = tracking_uri(TrackingConfig(uri=options.uri), given_path("root", options.root))
    if uri.startswith("http"):
        raise UserError(f"the runs are tracked by a server already: open {shown(uri)}")
    database = sqlite_file(uri)
    if database is not None and not database.is_file():
        raise UserError(f"no run is tracked in '{database}' yet: start one with `make train`")
    if options.host not in LOOPBACK and "MLFLOW_SERVER_ALLOWED_HOSTS" not in os.environ:
        print("MLflow answers calls to this machine's private addresses; MLFLOW_SERVER_ALLOWED_HOSTS adds its names")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", options.host, "--port", str(options.port)]
    # A database's address may hold its password, and everybody on the machine may read command lines.
    os.execve(sys.executable, command, os.environ | {"MLFLOW_BACKEND_STORE_URI": uri})
