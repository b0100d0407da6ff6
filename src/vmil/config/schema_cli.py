"""What the commands take besides a run's configuration; every option is a `key=value` like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmil.config.schema_expert import ExpertConfig
from vmil.config.schema_planner import LearnedConfig, PlannerConfig


@dataclass(frozen=True)
class RunOptions:
    """Which run to go on with; every other key=value changes its configuration."""

    run: str = "latest"
    root: str = "runs"


@dataclass(frozen=True)
class EvaluateOptions:
    """What to evaluate and how long."""

    run: str = "latest"
    root: str = "runs"
    episodes: int | None = None  # null: ten, or training.eval_episodes where the task asks for more
    video: str | None = None  # null: <run>/videos/evaluation.mp4


@dataclass(frozen=True)
class ExpertOptions(ExpertConfig):
    """Whom to train, and every knob of SAC; a scripted expert is measured over `eval_episodes`, and has no other."""

    env: str = "walker"
    seed: int = 0
    out: str | None = None  # null: <root>/expert-<env>-s<seed>
    root: str = "runs"
    resume: bool = True


@dataclass(frozen=True)
class DemosOptions:
    """Whom to record, and how often."""

    env: str = "walker"
    count: int | None = None  # null: as many as a run on this task imitates, demos.count
    seed: int = 0
    min_return: float | None = None  # episodes below are left out; where a task knows success, failures always are
    action_noise: float = 0.0  # Gaussian, on the expert's actions: shows how to come back from small errors
    actor: str | None = None  # a trained expert's; null: the one trained here with this seed, else the shipped one
    out: str | None = None  # null: <root>/demos-<env>-s<seed>
    root: str = "runs"


@dataclass(frozen=True)
class PlannedExpertOptions(LearnedConfig, PlannerConfig):
    """How to plan, where the expert is a planner (env=baoding), and how many episodes measure it."""

    env: str = "baoding"
    seed: int = 0
    eval_episodes: int = 10
    out: str | None = None  # null: <root>/expert-<env>-s<seed>
    root: str = "runs"


@dataclass(frozen=True)
class PlannedDemosOptions(LearnedConfig, PlannerConfig, DemosOptions):
    """How to plan, and how many successful episodes to keep."""

    env: str = "baoding"


@dataclass(frozen=True)
class UiOptions:
    """Where to show the tracked runs."""

    root: str = "runs"
    uri: str | None = None  # null: as tracking.uri
    port: int = 5000


RunnerKind = Literal["local", "ray"]


@dataclass(frozen=True)
class ExperimentOptions:
    """Which grid of runs to work off, and how; every other key=value goes to each of its runs."""

    name: str = "figure3"  # a file in conf/experiment
    seeds: str = "0"  # whole numbers, separated by spaces
    env: str | None = None  # only these tasks of the grid, separated by spaces; null: all
    algo: str | None = None  # only these algorithms of the grid; null: all
    budget: int | None = None  # environment frames of each run; null: as its preset says
    runner: RunnerKind = "local"  # local: processes of this machine; ray: a Ray cluster, $RAY_ADDRESS or a local one
    jobs: int = 0  # runs at once; 0: what cores, memory and GPUs carry
    retries: int = 1  # how often a run that fails, other than by a wrong setting, is taken up again
    root: str = "runs"


@dataclass(frozen=True)
class PublishOptions:
    """Which run's numbers to put beside the notebooks, and what to say of it."""

    run: str = "latest"
    root: str = "runs"
    name: str | None = None  # directory in `out`; null: the run's
    out: str | None = None  # null: notebooks/results of the checkout
    variant: str | None = None  # null: run.variant
    machine: str | None = None  # null: this machine, in words
    note: str = ""  # what a reader must know: stopped early, changed code
    latents: bool = True  # filter some episodes with the checkpoint, for the pictures of the latent space


@dataclass(frozen=True)
class FiguresOptions:
    """Where to write the figures."""

    out: str = "figures"
    source: str | None = None  # results: a directory, mlflow, or an MLflow URI; null: $VMIL_RESULTS, else the committed


@dataclass(frozen=True)
class NotebooksOptions:
    """Which notebooks to run, in place."""

    path: str | None = None  # a notebook or a directory of them; null: notebooks/ of the checkout
    source: str | None = None  # as FiguresOptions.source
