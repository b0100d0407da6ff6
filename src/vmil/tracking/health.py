"""Whether a run is well: which of its numbers are outside their healthy ranges, why that may be, and what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeVar

from vmil.config.learners import discriminator_settings, traits
from vmil.config.schema import Config
from vmil.tracking.metrics import Metric, check
from vmil.tracking.ranges import Range

Side = Literal["low", "high"]
Chosen = TypeVar("Chosen")


class Cause(NamedTuple):
    """What most likely lies behind a number on that side of its range, and what to try."""

    name: str
    advice: str


class Finding(NamedTuple):
    """One number that is not as it should be, said in a sentence."""

    cause: str  # the name of it, such as "actions saturated"
    sentence: str


SATURATED_D = Cause(
    "D saturated",
    "more penalty_scale, less lr, or reward=logit, which has a slope where D is sure (discriminator.*; dac_drq: dac.*)",
)
IDLE_D = Cause("D does not learn", "more lr, or less penalty_scale (discriminator.*; dac_drq: dac.*)")
DIVERGING_CRITIC = Cause("critic diverging", "less behaviour.critic_lr, and behaviour.slow_critic=0.02")
DIVERGING_Q = Cause("critic diverging", "less drq.lr, or less drq.tau")
UNFIT_MODEL = Cause(
    "model not fitting",
    "look at model/open_loop; more training.pretrain_updates or updates_per_epoch, another world_model.lr, more depth",
)
OTHER_NEGATIVES = (
    "discriminator.prior_next_state=true, or replay for D instead of dreams (discriminator.replay_negatives=true "
    "discriminator.dream_negatives=false)"
)
EXPLODING = Cause("gradients exploding", "a smaller learning rate or clip of that part")
ASTRAY = Cause(
    "does not imitate",
    "what other warnings advise; without any, more frames or demonstrations if eval/expert_prob is low too (D tells "
    "the agent rightly), a look at eval/reward_correlation if not (D rewards something else)",
)

# One line for each bound of the registry. The knobs are those of `vmil config`.
CAUSES: Final[dict[tuple[str, Side], Cause]] = {
    ("model/reconstruction", "high"): UNFIT_MODEL,
    ("model/proprio", "high"): UNFIT_MODEL,
    ("model/kl", "low"): Cause("KL collapsed", "less world_model.free_nats or kl_scale: the images are being ignored"),
    ("model/kl", "high"): Cause("prior left behind", "more world_model.kl_scale, or less world_model.lr"),
    ("model/grad_norm", "high"): EXPLODING,
    ("disc/loss", "low"): SATURATED_D,
    ("disc/loss", "high"): IDLE_D,
    ("disc/expert_prob", "low"): IDLE_D,
    ("disc/expert_prob", "high"): SATURATED_D,
    ("disc/policy_prob", "low"): SATURATED_D,
    ("disc/policy_prob", "high"): IDLE_D,
    ("disc/accuracy", "low"): IDLE_D,
    ("disc/accuracy", "high"): SATURATED_D,
    ("disc/replay_accuracy", "low"): IDLE_D,
    ("disc/replay_accuracy", "high"): ASTRAY,
    ("disc/gradient_at_input", "high"): Cause("D too steep", "more penalty_scale (discriminator.*; dac_drq: dac.*)"),
    ("disc/grad_norm", "high"): EXPLODING,
    ("actor/cloning_error", "high"): Cause(
        "actions saturated or astray",
        "an actor that did nothing would be nearer to the expert: see actor/mean_abs; more behaviour.cloning, less "
        "behaviour.init_std or actor_lr",
    ),
    ("actor/grad_norm", "high"): EXPLODING,
    ("actor/action_std", "low"): Cause("entropy gone", "more behaviour.entropy or min_std"),
    ("actor/action_std", "high"): Cause(
        "actions stay random", "less behaviour.entropy or max_std, more behaviour.cloning; see reward/std"
    ),
    ("actor/mean_abs", "low"): Cause("actor idle", "see reward/std and actor/grad_norm: no slope may reach the actor"),
    ("actor/mean_abs", "high"): Cause(
        "actions saturated", "less behaviour.actor_lr or init_std, more behaviour.entropy or cloning"
    ),
    ("actor/advantage_scale", "low"): Cause("returns all alike", "see reward/std; discriminator.reward=logit"),
    ("critic/value", "low"): DIVERGING_Q,
    ("critic/value", "high"): DIVERGING_Q,
    ("critic/grad_norm", "high"): EXPLODING,
    ("temperature/value", "low"): Cause("temperature gone", "a larger drq.init_temperature, or less drq.lr"),
    ("temperature/value", "high"): Cause("temperature diverging", "less drq.lr: the policy stays below its entropy"),
    ("reward/mean", "low"): SATURATED_D,
    ("reward/mean", "high"): IDLE_D,
    ("reward/std", "low"): Cause(
        "reward flat", "see disc/accuracy: a D that is sure, or knows nothing, says one thing"
    ),
    ("reward/std", "high"): SATURATED_D,
    ("reward/min", "low"): SATURATED_D,
    ("reward/max", "low"): SATURATED_D,
    ("reward/max", "high"): SATURATED_D,
    ("eval/normalised", "low"): ASTRAY,
    ("eval/success", "low"): ASTRAY,
    ("eval/success_at_end", "low"): ASTRAY,
    ("eval/on_target", "low"): ASTRAY,
    ("eval/tracking_error", "high"): ASTRAY,
    ("eval/steps_to_drop", "low"): ASTRAY,
    ("eval/expert_prob", "low"): ASTRAY,
    ("eval/reward_correlation", "low"): Cause(
        "D rewards something else",
        f"{OTHER_NEGATIVES}, and a look at the demonstrations' pictures",
    ),
    ("health/filter_gap", "high"): Cause("D tells filter from dream", OTHER_NEGATIVES),
    ("health/value_excess", "high"): DIVERGING_CRITIC,
}


def labels(config: Config) -> frozenset[str]:
    """The words by which ranges are chosen: task, learner, what is observed; of D, if there is one, its reward map and
    whether it compares with the agent's replay alone.
    """
    words = [config.env.name, config.learner, "pixels+proprio" if config.env.proprio else "pixels"]
    discriminator = discriminator_settings(config)
    if config.debug.use_ground_truth_reward:
        words.append("true_reward")
    elif discriminator is not None:
        words.append(discriminator.reward)
        if traits(config).dreams and not config.discriminator.dream_negatives:
            words.append("replay")
    return frozenset(words)


def healthy_range(metric: Metric, words: frozenset[str]) -> Range:
    """The metric's range in runs that bear these `labels`."""
    return _chosen(metric.where, words, metric.healthy)


def settled_after(metric: Metric, words: frozenset[str]) -> int:
    """Rounds before which the metric says nothing in such runs."""
    return _chosen(metric.settled_where, words, metric.settled)


def _chosen(where: Mapping[str, Chosen], words: frozenset[str], otherwise: Chosen) -> Chosen:
    """The value of the key with most words, of the keys whose words are all there."""
    fitting = [key for key in where if words.issuperset(key.split())]
    return where[max(fitting, key=lambda key: len(key.split()))] if fitting else otherwise


def derived(values: Mapping[str, float], config: Config) -> dict[str, float]:
    """`health/*` of one round: what only two metrics together tell; without those of which a part is missing."""
    found: dict[str, float] = {}
    if "disc/dream_accuracy" in values and "disc/replay_accuracy" in values:
        found["health/filter_gap"] = values["disc/dream_accuracy"] - values["disc/replay_accuracy"]
    if traits(config).dreams and {"critic/value", "reward/min", "reward/max"} <= values.keys():
        b = config.behaviour
        largest = b.reward_scale * max(abs(values["reward/min"]), abs(values["reward/max"]))
        if largest > 0:  # rewards r for ever are worth r / (1 − γ)
            found["health/value_excess"] = abs(values["critic/value"]) * (1 - b.discount) / largest
    return found


def diagnose(values: Mapping[str, float], frames: int, config: Config) -> dict[str, Finding]:
    """What is wrong with these numbers, reported after that many frames, by metric; empty if nothing is."""
    words, rounds = labels(config), frames / config.training.frames_per_epoch
    found: dict[str, Finding] = {}
    for name, value in values.items():
        metric = check(name)
        low, high = healthy_range(metric, words)
        if not math.isfinite(value):
            found[name] = Finding("not a number", f"{name} is {value}: a loss diverged; try a smaller learning rate")
        elif rounds < settled_after(metric, words):
            continue
        elif low is not None and value < low:
            found[name] = _finding(name, value, "low", low)
        elif high is not None and value > high:
            found[name] = _finding(name, value, "high", high)
    return found


def _finding(name: str, value: float, side: Side, bound: float) -> Finding:
    cause, where = CAUSES[name, side], "below" if side == "low" else "above"
    meaning = check(name).meaning
    return Finding(
        cause.name, f"{name} = {value:.4g} is {where} {bound:g} ({meaning}): likely {cause.name}; try {cause.advice}"
    )
