"""What each learner reads from the configuration, and what its definition fixes."""

from __future__ import annotations

from collections.abc import Collection

from vmil.config.errors import UserError
from vmil.config.keys import Scalar, flatten, leaves
from vmil.config.schema import Config
from vmil.config.schema_baselines import LearnerKind

# Sections that only some learners read; all others are everyone's.
SECTIONS: dict[LearnerKind, tuple[str, ...]] = {
    "vmil": ("world_model", "discriminator", "behaviour"),
    "sqil_drq": ("pixels", "drq"),
    "dac_drq": ("pixels", "drq", "dac"),
    "bc": ("pixels", "bc"),
}


def unread(learner: LearnerKind) -> set[str]:
    """The leaves that change nothing for this learner."""
    others = set().union(*SECTIONS.values()) - set(SECTIONS[learner])
    collecting = {f"training.{name}" for name in ("seed_frames", "episode_frames", "replay_frames")}
    collecting |= {key for key in leaves(Config) if key.startswith("collector.")}
    idle = collecting if learner == "bc" else set()
    return {key for key in leaves(Config) if key.partition(".")[0] in others} | idle


def collects(config: Config) -> bool:
    """Whether the agent acts while it learns; behaviour cloning does not, and its frames are only a clock."""
    return config.learner != "bc"


def sees_stacks(config: Config) -> bool:
    """Whether an observation is a stack of frames rather than one frame and a memory."""
    return config.learner != "vmil"


def lead_in(config: Config) -> int:
    """Steps by which a training sequence may begin before its episode, repeating the first: a stack's older frames."""
    return config.pixels.frame_stack - 1 if sees_stacks(config) else 0


def expert_columns(batch_size: int, demo_fraction: float, true_reward: bool) -> int:
    """Expert columns of a batch outside pre-training; none where the true reward leaves no use for an expert."""
    if demo_fraction == 0.0 and true_reward:
        return 0
    return min(batch_size, max(1, round(batch_size * demo_fraction)))


def settle(config: Config, asked: Collection[str] = ()) -> None:
    """Sets what the learner's definition fixes, whatever size preset came before.

    Raises:
        UserError: a key of `asked` (given on the command line) changes nothing for this learner, or contradicts it.
    """
    for key in asked:
        if key in unread(config.learner):
            raise UserError(f"{key} changes nothing here: the learner {config.learner} does not read it")
    for key, value in _fixed(config).items():
        if key in asked and flatten(config)[key] != value:
            raise UserError(f"{key}={flatten(config)[key]} cannot be: the learner {config.learner} needs {value}")
        section, _, leaf = key.partition(".")
        setattr(getattr(config, section), leaf, value)


def _fixed(config: Config) -> dict[str, Scalar]:
    stack, true_reward = config.pixels.frame_stack, config.debug.use_ground_truth_reward
    if config.learner == "vmil":
        return {}
    if config.learner == "bc":  # a stack and its action; every sequence is the expert's
        return {"training.batch_length": stack, "training.pretrain_updates": 0, "training.demo_fraction": 1.0}
    # A transition: a stack, its action, and the frame that follows.
    transition: dict[str, Scalar] = {"training.batch_length": stack + 1, "training.pretrain_updates": 0}
    if true_reward:  # plain DrQ, which has no expert
        return transition | {"training.demo_fraction": 0.0}
    if config.learner == "sqil_drq":  # "balanced" is part of the method
        return transition | {"training.demo_fraction": 0.5}
    if config.learner == "dac_drq":
        return transition
    raise ValueError(f"unknown learner {config.learner!r}")
