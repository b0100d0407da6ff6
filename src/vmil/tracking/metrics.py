"""Every number that a run reports: what it means, its unit, and the range in which a run is healthy.

A name that is not here cannot be logged: a misspelt metric is an error, not an empty chart.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Metric:
    """One number of a run; `healthy` is (lowest, highest), None where nothing is known."""

    meaning: str
    unit: str = ""
    healthy: tuple[float | None, float | None] = (None, None)


# The ranges are alarms, not targets: outside them, runs of this and of kindred methods were found broken.
REGISTRY: Final[dict[str, Metric]] = {
    "model/loss": Metric("negative evidence lower bound per replayed step", "nats"),
    "model/reconstruction": Metric("½‖x − x̂‖² summed over the pixels of one image", "squared intensity"),
    "model/proprio": Metric("½‖p − p̂‖² summed over the vector observation"),
    "model/kl": Metric("KL(posterior ‖ prior) before free nats; near zero images are ignored", "nats", (0.01, None)),
    "model/kl_free": Metric("the KL that enters the loss, after free nats", "nats"),
    "model/prior_entropy": Metric("entropy of p(s′ | z, a)", "nats"),
    "model/posterior_entropy": Metric("entropy of q(s′ | x′, z, a)", "nats"),
    "model/grad_norm": Metric("gradient norm of the model before clipping", "", (None, 1e5)),
    "model/reward": Metric("loss of the diagnostic reward head; only with debug.use_ground_truth_reward"),
    "disc/loss": Metric("binary cross-entropy of D, without its penalty", "nats"),
    "disc/expert_prob": Metric("mean D on expert triples; 0.5: cannot tell", "probability", (0.3, 0.999)),
    "disc/policy_prob": Metric("mean D on dreamt triples; 0.5: cannot tell", "probability", (0.001, 0.7)),
    "disc/accuracy": Metric("share of training triples that D sorts rightly; near 1: no signal", "share", (0.4, 0.995)),
    "disc/replay_accuracy": Metric(
        "the same for replay against demo posteriors; far below disc/accuracy: D tells filter from dream", "share"
    ),
    "disc/penalty": Metric("gradient penalty, before its weight"),
    "disc/grad_norm": Metric("gradient norm of D's weights before clipping", "", (None, 1e5)),
    "disc/noise_std": Metric("standard deviation of the noise on D's input"),
    "disc/gradient_at_input": Metric("mean norm of D's gradient at its input, what the penalty holds near its target"),
    "actor/loss": Metric("loss of the actor, all terms"),
    "actor/return": Metric("mean λ-return of the dreams, in units of D's reward"),
    "actor/entropy": Metric("mean −log π(a | z) of dreamt actions", "nats"),
    "actor/cloning": Metric("−log π(expert action | expert posterior)", "nats"),
    "actor/cloning_error": Metric("mean |mode − expert action| on demo posteriors; 0: cloned exactly"),
    "actor/cloning_weight": Metric("weight of the cloning term now"),
    "actor/grad_norm": Metric("gradient norm of the actor before clipping", "", (None, 1e5)),
    "actor/action_std": Metric("mean standard deviation of the policy; zero explores nothing", "", (1e-3, None)),
    "actor/mean_abs": Metric("mean |a| of the policy's mode; near one it is saturated", "", (None, 0.995)),
    "actor/advantage_scale": Metric("running 5–95 % range by which returns are divided"),
    "critic/loss": Metric("regression loss of the critic"),
    "critic/value": Metric("mean V(z) of the dreams; should follow actor/return"),
    "critic/grad_norm": Metric("gradient norm of the critic before clipping", "", (None, 1e5)),
    "reward/mean": Metric("mean reward r(D) of dreamt steps"),
    "reward/std": Metric("spread of r(D) over dreamt steps; zero: nothing to learn from", "", (1e-6, None)),
    "reward/min": Metric("smallest r(D) of the dreamt steps"),
    "reward/max": Metric("largest r(D) of the dreamt steps"),
    "eval/return": Metric("mean return of deterministic episodes, environment's reward (score only)"),
    "eval/return_std": Metric("standard deviation over those episodes"),
    "eval/success": Metric("share of deterministic episodes that solve the task; where there is such a thing", "share"),
    "eval/success_at_end": Metric("share of them that still have it solved when the time is up", "share"),
    "eval/normalised": Metric("eval/return over the demonstrations' mean return"),
    "eval/reward_correlation": Metric("correlation of r(D) with the environment's reward (diagnosis only)"),
    "eval/expert_prob": Metric("mean D along the evaluated episodes; 1: taken for the expert", "probability"),
    "eval/seconds": Metric("duration of the evaluation", "s"),
    "eval/episodes": Metric("episodes of the evaluation"),
    "collect/return": Metric("mean return of the episodes just collected, with exploration noise (score only)"),
    "collect/success": Metric("share of the episodes just collected, with exploration noise, that succeed", "share"),
    "collect/episodes": Metric("episodes collected in this round"),
    "time/act": Metric("policy's share of the collection, per round", "s"),
    "time/render": Metric("rendering's share of the collection, per round", "s"),
    "time/env": Metric("physics' share of the collection, per round", "s"),
    "time/collect": Metric("collection, per round", "s"),
    "time/sample": Metric("drawing a batch, per update", "s"),
    "time/model": Metric("model's loss and step, per update", "s"),
    "time/dream": Metric("imagination, per update", "s"),
    "time/discriminator": Metric("D's loss and step, per update", "s"),
    "time/behaviour": Metric("actor's and critic's losses and steps, per update", "s"),
    "time/update": Metric("one whole update", "s"),
    "rate/frames": Metric("environment frames per second of wall-clock, everything included", "1/s"),
    "rate/updates": Metric("updates per second of wall-clock, everything included", "1/s"),
    "replay/frames": Metric("frames in the replay", "frames"),
    "replay/episodes": Metric("episodes in the replay"),
    "system/memory_gb": Metric("resident memory of this process", "GB"),
    "run/seconds": Metric("wall-clock since the run began, resumed stretches added up", "s"),
}


def check(name: str) -> Metric:
    """The registered metric of that name.

    Raises:
        KeyError: the name is unknown; the message holds the nearest known one.
    """
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.0)
        raise KeyError(f"unknown metric {name!r}, did you mean {near[0]!r}? (vmil/tracking/metrics.py lists them)")
    return REGISTRY[name]


def unhealthy(values: Mapping[str, float]) -> dict[str, str]:
    """A sentence for each value that is not finite or outside its healthy range, keyed by the metric's name."""
    found: dict[str, str] = {}
    for name, value in values.items():
        metric = check(name)
        low, high = metric.healthy
        if not math.isfinite(value):
            found[name] = f"{name} is {value}"
        elif low is not None and value < low:
            found[name] = f"{name} = {value:.4g} is below {low:g}: {metric.meaning}"
        elif high is not None and value > high:
            found[name] = f"{name} = {value:.4g} is above {high:g}: {metric.meaning}"
    return found
