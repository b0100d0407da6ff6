"""Every number that a run reports: what it means, its unit, and the range in which a run is healthy.

A name that is not here cannot be logged: a misspelt metric is an error, not an empty chart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vmil.config import keys
from vmil.tracking.ranges import ANY, SETTLED, WHERE, Range


@dataclass(frozen=True)
class Metric:
    """One number of a run.

    healthy: for any run. where: what holds instead for runs that bear all the words of the key (`health.labels`: task,
    learner, observation, reward map); the key with most words counts. settled: rounds of collection before which a
    value says nothing; settled_where: instead, by such keys. Those by keys are in ranges.py.
    """

    meaning: str
    unit: str = ""
    healthy: Range = ANY
    where: Mapping[str, Range] = field(default_factory=dict)
    settled: int = 3
    settled_where: Mapping[str, int] = field(default_factory=dict)


# The ranges are alarms, not targets. Those here are what the quantity itself allows, or where related methods were
# found broken; ranges.py has those of a task. health.py says what each bound means and what to try.
_METRICS: Final[dict[str, Metric]] = {
    "model/loss": Metric("negative evidence lower bound per replayed step", "nats"),
    "model/reconstruction": Metric("½‖x − x̂‖² summed over the pixels of one image", "squared intensity", (None, 120.0)),
    "model/proprio": Metric("½‖p − p̂‖² summed over the vector observation"),
    "model/kl": Metric("KL(posterior ‖ prior) before free nats; near zero images are ignored", "nats", (0.3, 200.0)),
    "model/kl_free": Metric("the KL that enters the loss: not below the free nats; before its weight", "nats"),
    "model/prior_entropy": Metric("entropy of p(s′ | z, a)", "nats"),
    "model/posterior_entropy": Metric("entropy of q(s′ | x′, z, a)", "nats"),
    "model/grad_norm": Metric("gradient norm of the model before clipping", "", (None, 1e5)),
    "model/reward": Metric("loss of the diagnostic reward head; only with debug.use_ground_truth_reward"),
    # A D that is certain of nothing has log 2 = 0.69; one that is 99.9 % certain and right has 0.001.
    "disc/loss": Metric("binary cross-entropy of D, without its penalty", "nats", (0.001, 1.0)),
    "disc/expert_prob": Metric("mean D on expert triples; 0.5: cannot tell", "probability", (0.3, 0.999)),
    "disc/policy_prob": Metric(
        "mean D on the policy's (vmil: dreamt) triples; 0.5: cannot tell",
        "probability",
        (0.001, 0.7),
    ),
    "disc/accuracy": Metric("share of training triples that D sorts rightly; near 1: no signal", "share", (0.4, 0.995)),
    "disc/replay_accuracy": Metric(
        "the same for replay against demo posteriors, without noise and after D's step", "share"
    ),
    "disc/dream_accuracy": Metric(
        "and for dreams against demo posteriors; far above disc/replay_accuracy: D tells filter from dream", "share"
    ),
    "disc/penalty": Metric("gradient penalty, before its weight"),
    "disc/grad_norm": Metric("gradient norm of D's weights before clipping", "", (None, 1e5)),
    "disc/noise_std": Metric("standard deviation of the noise on D's input"),
    "disc/gradient_at_input": Metric("mean norm of D's gradient at its input, its penalty's target", "", (None, 10.0)),
    "actor/loss": Metric("loss of the actor, without the cloning term; bc: squared error of its mode"),
    "actor/return": Metric("mean λ-return of the dreams, of rewards r(D) times behaviour.reward_scale"),
    "actor/entropy": Metric(
        "mean bonus of dreamt (DrQ: replayed states') actions: −log π, or a clipped normal's entropy", "nats"
    ),
    "actor/cloning": Metric("−log π(expert action | expert posterior)", "nats"),
    "actor/cloning_error": Metric(
        "mean |mode − expert action| on demonstrations; 0: cloned exactly",
        "",
        (None, 1.0),
    ),
    "actor/cloning_weight": Metric("weight of the cloning term now"),
    "actor/grad_norm": Metric("gradient norm of the actor before clipping", "", (None, 1e5)),
    "actor/action_std": Metric("mean standard deviation of the policy; zero explores nothing", "", (1e-3, None)),
    "actor/mean_abs": Metric(
        "mean |a| of the policy's actions (DrQ: mode); near one it is saturated", "", (0.005, 0.97)
    ),
    "actor/advantage_scale": Metric("running 5–95 % range by which returns are divided; floor 0.001", "", (2e-3, None)),
    "critic/loss": Metric("regression loss of the critic"),
    "critic/value": Metric("mean V(z) of the dreams, which should follow actor/return; DrQ: mean Q(s, a)"),
    "critic/grad_norm": Metric("gradient norm of the critic before clipping", "", (None, 1e5)),
    "temperature/loss": Metric("loss of DrQ's temperature"),
    "temperature/value": Metric("α, the price of a nat of entropy in units of reward", "", (1e-5, 1e2)),
    "temperature/grad_norm": Metric("|d loss / d log α|"),
    "reward/mean": Metric("mean reward r(D) of dreamt (DrQ: replayed) steps; SQIL: the expert's share"),
    "reward/std": Metric("spread of r(D) over dreamt steps; zero: nothing to learn from", "", (1e-6, None)),
    "reward/min": Metric("smallest r(D) of the dreamt steps"),
    "reward/max": Metric("largest r(D) of the dreamt steps"),
    "eval/return": Metric("mean return of deterministic episodes, environment's reward (score only)"),
    "eval/return_std": Metric("standard deviation over those episodes"),
    "eval/success": Metric(
        "share of deterministic episodes that solve the task; where there is such a thing", "share", settled=30
    ),
    "eval/success_at_end": Metric("share of them that still have it solved when the time is up", "share", settled=30),
    "eval/on_target": Metric(
        "baoding: share of the control steps with both balls on their targets, none dropped", "share", settled=30
    ),
    "eval/tracking_error": Metric(
        "baoding: mean in-plane distance of the balls from their targets before a drop", "m", settled=30
    ),
    "eval/steps_to_drop": Metric("baoding: control steps done without a drop; 100 is a whole episode", "steps"),
    "eval/normalised": Metric("eval/return over the demonstrations' mean return", "", (0.2, None), settled=30),
    "eval/reward_correlation": Metric("correlation of r(D) with the environment's reward (diagnosis only)", settled=5),
    "eval/expert_prob": Metric(
        "mean D along the evaluated episodes; 1: taken for the expert", "probability", settled=30
    ),
    "eval/seconds": Metric("duration of the evaluation", "s"),
    "eval/episodes": Metric("episodes of the evaluation"),
    "collect/return": Metric("mean return of a round's episodes, noisy and perhaps broken off (score only)"),
    "collect/success": Metric("share of the episodes just collected, with exploration noise, that succeed", "share"),
    "collect/episodes": Metric("episodes collected since the run began"),
    "time/act": Metric("policy's share of the collection, per round", "s"),
    "time/render": Metric("rendering's share of the collection, per round", "s"),
    "time/env": Metric("physics' share of the collection, per round", "s"),
    "time/collect": Metric("collection, per round", "s"),
    "time/sample": Metric("drawing a batch, per update", "s"),
    "time/model": Metric("model's loss and step, per update", "s"),
    "time/dream": Metric("imagination, per update", "s"),
    "time/discriminator": Metric("D's loss and step, per update", "s"),
    "time/target": Metric("DrQ's targets, per update", "s"),
    "time/critic": Metric("DrQ critic's loss and step, per update", "s"),
    "time/actor": Metric("DrQ actor's and temperature's losses and steps, each time they are made", "s"),
    "time/behaviour": Metric("actor's and critic's losses and steps, per update", "s"),
    "time/update": Metric("one whole update", "s"),
    "rate/frames": Metric("environment frames per second of wall-clock, everything included", "1/s"),
    "rate/updates": Metric("updates per second of wall-clock, everything included", "1/s"),
    "replay/frames": Metric("frames in the replay", "frames"),
    "replay/episodes": Metric("episodes in the replay"),
    "system/memory_gb": Metric("resident memory of this process", "GB"),
    "health/filter_gap": Metric(
        "disc/dream_accuracy − disc/replay_accuracy; positive: D tells dreamt from filtered states, not who acts",
        "share",
        (None, 0.1),
    ),
    "health/value_excess": Metric(
        "|critic/value| over the largest value that rewards of reward/min to reward/max allow", "", (None, 1.5)
    ),
    "health/warnings": Metric("metrics that are outside their healthy range in this round"),
    "run/seconds": Metric("wall-clock since the run began, resumed stretches added up", "s"),
}

REGISTRY: Final[dict[str, Metric]] = {
    name: replace(metric, where=WHERE.get(name, {}), settled_where=SETTLED.get(name, {}))
    for name, metric in _METRICS.items()
}


def check(name: str) -> Metric:
    """The registered metric of that name.

    Raises:
        KeyError: the name is unknown; the message holds the nearest known one, if one is near.
    """
    if name not in REGISTRY:
        raise KeyError(f"unknown metric '{name}' (vmil/tracking/metrics.py lists them){keys.nearest(name, REGISTRY)}")
    return REGISTRY[name]
