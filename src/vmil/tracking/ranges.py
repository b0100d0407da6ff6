"""Healthy ranges that hold only for some runs: by task, by learner, by what D's reward is.

Each key is words of `health.labels`; the key with most words counts. The ranges come from committed runs that learnt:
of `vmil_plus` walker_vmil_plus_long_s0, sawyer_vmil_plus_s0, baoding_vmil_plus_s0, cheetah_vmil_plus_long_s0 and
cheetah_vmil_plus_low_kl_then_whole_episodes_s0, of `vmil_few` walker_vmil_few_demos1_s0 and _s1. They are what these
show once judgement begins, widened by half its width on each side or by a factor of about two, and rounded; or up to
where theory puts an agent that D cannot tell (accuracy and probabilities of 0.5, mean reward of 0). A task without a
run gets what the others agree on.

Not judged, for it would be said twice or say nothing: eval/return is eval/normalised; critic/value and actor/return are
judged in units of reward by health/value_excess, model/loss and model/kl_free by their parts; collect/* is of few noisy
episodes, broken off; losses without a scale of their own, weights and noise that are set, counts, times.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

Range: TypeAlias = tuple[float | None, float | None]  # lowest and highest healthy value, both included; None: no limit
ANY: Final[Range] = (None, None)


def _plus(any_task: Range, **tasks: Range) -> dict[str, Range]:
    """Ranges of `vmil_plus`, which is known by its learner and its reward: of any task, and of some."""
    return {"vmil logit": any_task} | {f"{task} vmil logit": limits for task, limits in tasks.items()}


def _few(limits: Range) -> dict[str, Range]:
    """Ranges of walker where D compares with the agent's replay alone, as in `vmil_few`: it sorts better there."""
    return {"walker vmil logit replay": limits}


WHERE: Final[Mapping[str, Mapping[str, Range]]] = {
    "model/reconstruction": {
        "walker": (None, 40.0),
        "sawyer": (None, 45.0),
        "baoding": (None, 90.0),
        "cheetah": (None, 20.0),
    },
    # 24 joints each half a radian off, as one pose for all pictures would have them.
    "model/proprio": {"baoding": (None, 3.0)},
    "model/kl": {"walker": (1.0, 30.0)}  # 1: the free nats of vmil_plus
    | _plus((1.0, 30.0), walker=(3.0, 30.0), sawyer=(2.0, 15.0), baoding=(2.5, 20.0), cheetah=(4.0, 25.0)),
    "disc/expert_prob": _plus(
        (0.4, 0.85), walker=(0.4, 0.8), sawyer=(0.4, 0.75), baoding=(0.4, 0.75), cheetah=(0.4, 0.87)
    )
    | _few((0.4, 0.985)),
    "disc/policy_prob": {"vmil": (0.02, 0.7)}
    | _plus((0.15, 0.6), walker=(0.2, 0.6), sawyer=(0.25, 0.6), baoding=(0.25, 0.6), cheetah=(0.12, 0.6))
    | _few((0.015, 0.6)),
    "disc/accuracy": {"vmil": (0.4, 0.97), "walker vmil": (0.45, 0.95)}
    | _plus((0.45, 0.9), walker=(0.45, 0.88), sawyer=(0.45, 0.82), baoding=(0.45, 0.85), cheetah=(0.45, 0.95))
    | _few((0.45, 0.997)),
    "disc/replay_accuracy": _plus(
        (0.4, 0.99), walker=(0.45, 0.99), sawyer=(0.45, 0.93), baoding=(0.45, 0.93), cheetah=(0.45, 0.97)
    )
    | _few((0.45, 0.998)),
    # Walker's and sawyer's demonstrations have a mean |a| of 0.52 and 0.50: the error of doing nothing.
    "actor/cloning_error": {"walker vmil": (None, 0.6), "sawyer vmil": (None, 0.6), "bc": (None, 0.6)}
    | _plus((None, 0.5), walker=(None, 0.4), sawyer=(None, 0.3), baoding=(None, 0.15), cheetah=(None, 0.3)),
    "actor/action_std": {"vmil": (0.02, None)}
    | _plus((0.03, 0.38), walker=(0.08, 0.38), sawyer=(0.07, 0.35), baoding=(0.03, 0.18), cheetah=(0.07, 0.38)),
    "actor/mean_abs": {"walker vmil": (0.02, 0.8)}
    | _plus((0.1, 0.9), walker=(0.25, 0.8), sawyer=(0.25, 0.8), baoding=(0.2, 0.6), cheetah=(0.4, 0.9)),
    "critic/value": {"sqil_drq": (-100.0, 300.0), "dac_drq": (-3000.0, 3000.0)},  # thrice what rewards of 1, of 10 are
    "reward/mean": _plus((-3.0, 1.0), walker=(-2.5, 0.5), sawyer=(-2.0, 0.5), baoding=(-2.0, 0.5), cheetah=(-2.5, 0.5))
    | _few((-4.0, 0.5)),
    "reward/std": {"vmil": (5e-3, None)}
    | _plus((0.1, 4.0), walker=(0.5, 3.5), sawyer=(0.2, 2.5), baoding=(0.2, 2.5), cheetah=(0.5, 3.5)),
    "reward/min": {"logit": (-20.0, None)}
    | _plus((-15.0, None), walker=(-12.0, None), sawyer=(-8.0, None), baoding=(-8.0, None), cheetah=(-14.0, None)),
    "reward/max": {"logit": (None, 20.0)}
    | _plus((0.3, 8.0), walker=(0.5, 5.0), sawyer=(0.5, 6.5), baoding=(0.5, 5.0), cheetah=(0.8, 6.0))
    | _few((0.5, 8.0)),
    # Cheetah: two runs with short episodes, which hardly show it on its back, ended at 0.33 and 0.39 (one after 0.56).
    "eval/normalised": _plus(
        (0.2, None), walker=(0.5, None), sawyer=(0.25, None), baoding=(0.4, None), cheetah=(0.5, None)
    ),
    "eval/expert_prob": {"vmil logit": (0.2, None)},
    "eval/success": {"sawyer": (0.25, None), "baoding": (0.25, None)},
    "eval/success_at_end": {"sawyer": (0.1, None)},
    "eval/on_target": {"baoding": (0.35, None)},
    "eval/tracking_error": {"baoding": (None, 0.035)},
    "eval/steps_to_drop": {"baoding": (50.0, None)},
    # Where the good runs of sawyer and baoding have it from -0.3 to 0.4 and from 0 to 0.7.
    "eval/reward_correlation": {
        "walker": (0.1, None),
        "cheetah": (0.0, None),
        "sawyer": (-0.65, None),
        "baoding": (-0.4, None),
    },
    "health/filter_gap": {"vmil logit": (None, 0.05)},
    "health/value_excess": {"vmil logit": (None, 0.5)},
}

# Rounds before which a value says nothing, where they are not the metric's own; the same keys.
SETTLED: Final[Mapping[str, Mapping[str, int]]] = {
    "eval/normalised": {"cheetah": 75, "walker replay": 80},
    "eval/expert_prob": {"cheetah": 75, "walker replay": 80},
}
