"""What the commands take besides a run's configuration; every option is a `key=value` like any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vmil.config.ranges import Count, Finite, Natural, NotNegative, Range, Seed
from vmil.config.schema_expert import ExpertConfig
from vmil.config.schema_planner import LearnedConfig, PlannerConfig
from vmil.config.schema_ppo import HandPolicyConfig

FormatName = Literal["auto", "npz", "robomimic", "aloha", "minari", "lerobot"]
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
    pretrained: str | None = None  # instead of a run: a task whose policy came with vmil, or a directory of `ship`
    episodes: Count | None = None  # null: ten, or training.eval_episodes where the task asks for more
    video: str | None = None  # null: <run>/videos/evaluation.mp4; pretrained: <its name>-evaluation.mp4 here


@dataclass(frozen=True)
class ExpertOptions(ExpertConfig):
    """Whom to train, and every knob of SAC; a scripted expert is measured over `eval_episodes`, and has no other."""

    env: str = "walker"
    seed: Seed = 0
    out: str | None = None  # null: <root>/expert-<env>-s<seed>
    root: str = "runs"
    resume: bool = True


@dataclass(frozen=True)
class CheetahExpertOptions(ExpertOptions):
    """The same for cheetah, which goes on learning for longer; the defaults are of the shipped expert's stages."""

    frames: Count = 960_000  # SAC's
    ppo_frames: Natural = 16_000_000  # PPO's, from SAC's actor on


@dataclass(frozen=True)
class DemosOptions:
    """Whom to record, and how often."""

    env: str = "walker"
    count: Count | None = None  # null: as many as a run on this task imitates, demos.count
    seed: Seed = 0  # attempt i starts from seed + i: two sets overlap if their seeds are close
    min_return: Finite | None = None  # episodes below it are left out; failures always are, where success is defined
    action_noise: NotNegative = 0.0  # Gaussian, on the expert's actions: shows how to come back from small errors
    actor: str | None = None  # a trained expert's; null: the one trained here with this seed, else the shipped one
    out: str | None = None  # null: <root>/demos-<env>-s<seed>
    root: str = "runs"


@dataclass(frozen=True)
class PlannedExpertOptions(HandPolicyConfig, LearnedConfig, PlannerConfig):
    """How to plan, where the expert is a planner (env=baoding) or a policy, and how many episodes measure it."""

    env: str = "baoding"
    seed: Seed = 0
    eval_episodes: Count = 10
    note: str = ""  # for the card, what a reader must know, such as training that began with other code
    out: str | None = None  # null: <root>/expert-<env>-s<seed>
    root: str = "runs"


@dataclass(frozen=True)
class PlannedDemosOptions(HandPolicyConfig, LearnedConfig, PlannerConfig, DemosOptions):
    """How to plan, and how many successful episodes to keep."""

    env: str = "baoding"


@dataclass(frozen=True)
class ImportOptions:
    """What to import, and what its files do not say."""

    src: str | None = None  # a file or a directory, or the id of a Minari dataset that is on this disk
    format: FormatName = "auto"
    out: str | None = None  # null: <root>/imported-<env>-<src's name>
    root: str = "runs"
    image: str | None = None  # the array, or camera, that holds the pictures; null: the only one
    action: str | None = None  # the array of the actions; null: as the format calls it
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
    port: Annotated[int, Range(1, 65535, "[]")] = 5000
    host: str = "127.0.0.1"  # the interface it listens on; any other lets others in, without a password


RunnerKind = Literal["local", "ray"]


@dataclass(frozen=True)
class ExperimentOptions:
    """Which grid of runs to run, and how; every other key=value goes to each of its runs."""

    name: str = "figure3"  # a file in conf/experiment
    seeds: str = "0"  # whole numbers, separated by spaces
    env: str | None = None  # only these tasks of the grid, separated by spaces; null: all
    algo: str | None = None  # only these algorithms of the grid; null: all
    budget: Count | None = None  # environment frames of each run; null: as its preset says
    runner: RunnerKind = "local"  # local: processes of this machine; ray: a Ray cluster, $RAY_ADDRESS or a local one
    jobs: Natural = 0  # runs at once; 0: as many as cores, memory and GPUs allow
    retries: Natural = 1  # how often a run that fails, other than by a wrong setting, is retried
    root: str = "runs"


@dataclass(frozen=True)
class PublishOptions:
    """Which run's numbers to put beside the notebooks, and what to say about it."""

    run: str = "latest"
    root: str = "runs"
    name: str | None = None  # directory in `out`; null: <env>-<algo>-<variant>-s<seed>, less a preset's variant
    out: str | None = None  # null: notebooks/results of the checkout
    variant: str | None = None  # null: run.variant; must be given if settings differ from the preset's
    machine: str | None = None  # null: this machine, in words
    note: str = ""  # what a reader must know, such as stopped early, changed code
    latents: bool = True  # filter some episodes with the checkpoint, for the pictures of the latent space


@dataclass(frozen=True)
class ShipOptions:
    """Which run's policy to ship, and what to say about it."""

    run: str = "latest"
    root: str = "runs"
    out: str | None = None  # null: the task's place in this package, vmil/assets/<env>/pretrained
    episodes: Natural | None = None  # for the card: ten at least, or 0, not scored; null: ten, or eval_episodes if more
    machine: str | None = None  # that it was trained on; null: this one, in words
    note: str = ""  # what a reader must know, such as a schedule that was changed midway


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


@dataclass(frozen=True)
class BenchOptions:
    """What to measure, and how often.

    env, algo, demos.*, collector.*, compute and the sizes of a round and of the networks are as in a run.
    """

    out: str = "runs/bench.json"  # the numbers of the table
    parts: str | None = None  # of the table, comma-separated; null: all
    batches: str | None = None  # sequences x agent steps; null: 16x50, on a GPU also 16x64, 50x50, 128x50
    repeats: Count = 5  # of everything that is timed; medians are shown
    warmup: Natural = 2  # repeats before those, thrown away
    buffer_frames: Count = 500_000  # environment frames in the replay that is sampled from
    rounds: Count = 2  # of collection and updates, end to end, after two to warm up
    scaling: str | None = None  # the smallest batch of the scaling table, which grows fourfold each way; null: 8x25
