"""What sets the learners apart: what each reads from the configuration, how it learns, what its definition fixes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from vmil.config.keys import Scalar, flatten, leaves
from vmil.config.schema import Config, DiscriminatorConfig
from vmil.config.schema_baselines import DACConfig, LearnerKind
from vmil.errors import UserError


@dataclass(frozen=True)
class Traits:
    """What sets a learner apart.

    sections: those of the configuration that it reads and not everyone does; dreams: it sees single frames and learns
    in a model of the world, where the others see stacks of frames and have none; collects: it acts while it learns;
    rewarded: it learns from rewards; discriminator: the section of its D, None: it has none; demo_fraction: the
    expert's share of a batch where the method fixes it.
    """

    sections: tuple[str, ...]
    dreams: bool = False
    collects: bool = True
    rewarded: bool = True
    discriminator: Literal["discriminator", "dac"] | None = None
    demo_fraction: float | None = None


LEARNERS: dict[LearnerKind, Traits] = {
    "vmil": Traits(("world_model", "discriminator", "behaviour"), dreams=True, discriminator="discriminator"),
    "sqil_drq": Traits(("pixels", "drq"), demo_fraction=0.5),  # "balanced" is part of the method
    "dac_drq": Traits(("pixels", "drq", "dac"), discriminator="dac"),
    "bc": Traits(("pixels", "bc"), collects=False, rewarded=False, demo_fraction=1.0),
}


def traits(config: Config) -> Traits:
    """What sets the learner of this run apart."""
    return LEARNERS[config.learner]


def unread(learner: LearnerKind) -> set[str]:
    """The leaves that change nothing for this learner."""
    others = {name for each in LEARNERS.values() for name in each.sections} - set(LEARNERS[learner].sections)
    collecting = {
        f"training.{name}" for name in ("seed_frames", "episode_frames", "whole_episodes_from", "replay_frames")
    }
    collecting |= {key for key in leaves(Config) if key.startswith("collector.")}
    idle = set() if LEARNERS[learner].collects else collecting
    return {key for key in leaves(Config) if key.partition(".")[0] in others} | idle


def collects(config: Config) -> bool:
    """Whether the agent acts while it learns; behaviour cloning does not, and its frames are only a clock."""
    return traits(config).collects


def sees_stacks(config: Config) -> bool:
    """Whether an observation is a stack of frames rather than one frame and a memory."""
    return not traits(config).dreams


def discriminator_settings(config: Config) -> DiscriminatorConfig | DACConfig | None:
    """The section that the learner's discriminator reads; None: it has none."""
    sections = {None: None, "discriminator": config.discriminator, "dac": config.dac}
    return sections[traits(config).discriminator]


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
    learner = traits(config)
    if learner.dreams:
        return {}
    # A stack and its action; for who learns from rewards a transition, which ends in the frame that follows.
    length = config.pixels.frame_stack + (1 if learner.rewarded else 0)
    fixed: dict[str, Scalar] = {"training.batch_length": length, "training.pretrain_updates": 0}
    if learner.rewarded and config.debug.use_ground_truth_reward:  # plain DrQ, which has no expert
        return fixed | {"training.demo_fraction": 0.0}
    return fixed if learner.demo_fraction is None else fixed | {"training.demo_fraction": learner.demo_fraction}
