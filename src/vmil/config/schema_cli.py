"""What the commands take besides a run's configuration; every option is a `key=value` like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vmil.config.schema_expert import ExpertConfig

FormatName = Literal["auto", "npz", "robomimic", "minari", "lerobot"]
ExportFormat = Literal["npz", "minari"]
Alignment = Literal["auto", "at", "led_to"]
Resize = Literal["none", "stretch", "crop"]


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
    episodes: int = 10
    video: str | None = None  # null: <run>/videos/evaluation.mp4


@dataclass(frozen=True)
class ExpertOptions(ExpertConfig):
    """Whom to train, and every knob of SAC."""

    env: str = "walker"
    seed: int = 0
    out: str | None = None  # null: <root>/expert-<env>-s<seed>
    root: str = "runs"
    resume: bool = True


@dataclass(frozen=True)
class DemosOptions:
    """Whom to record, and how often."""

    env: str = "walker"
    count: int = 10
    seed: int = 0
    min_return: float = 0.0  # episodes below are left out
    action_noise: float = 0.0  # Gaussian, on the expert's actions: shows how to come back from small errors
    actor: str | None = None  # null: the expert trained here with this seed, else the shipped one
    out: str | None = None  # null: <root>/demos-<env>-s<seed>
    root: str = "runs"


@dataclass(frozen=True)
class ImportOptions:
    """What to import, and what its files do not say."""

    src: str | None = None  # a file or a directory, or the id of a Minari dataset that is on this disk
    format: FormatName = "auto"
    out: str | None = None  # null: <root>/imported-<env>-<src's name>
    root: str = "runs"
    image: str | None = None  # the array, or camera, that holds the pictures; null: the only one
    proprio: str | None = None  # arrays of the vector observation, comma-separated; null: `proprio` if env.proprio
    alignment: Alignment = "auto"  # action[t] was taken at image[t], or led to it; auto: the format's own
    resize: Resize = "none"  # to env.image_size: stretch to the square, or crop to the square in the centre first
    action_low: str | None = None  # what the source calls -1: a number, or one per dimension, comma-separated
    action_high: str | None = None  # and 1; null: the actions lie in [-1, 1] already
    skip_bad: bool = False  # leave refused episodes out, rather than refuse them all


@dataclass(frozen=True)
class ExportOptions:
    """Where to export a run's demonstrations, and how."""

    out: str | None = None  # null: <root>/exported-<env>-<format>
    root: str = "runs"
    format: ExportFormat = "npz"


@dataclass(frozen=True)
class UiOptions:
    """Where to show the tracked runs."""

    root: str = "runs"
    uri: str | None = None  # null: as tracking.uri
    port: int = 5000
