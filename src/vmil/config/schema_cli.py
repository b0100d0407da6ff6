"""What the commands take besides a run's configuration; every option is a `key=value` like any other."""

from __future__ import annotations

from dataclasses import dataclass

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
