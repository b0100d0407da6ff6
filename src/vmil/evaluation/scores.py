"""Scores of evaluated episodes: normalised by the expert, with spread and a confidence interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vmil.config.schema import ScoreName


@dataclass(frozen=True)
class Score:
    """Mean, spread and 95 % interval of the mean of returns.

    `normalised` is the mean over the expert's, if that is known and positive. `extras` are the means of what else the
    task scores; that of "success" is the success rate.
    """

    mean: float
    std: float
    iqm: float
    low: float
    high: float
    normalised: float | None
    episodes: int
    extras: dict[str, float] = field(default_factory=dict)
    headline: ScoreName = "return"  # which of them is the task's score

    def __str__(self) -> str:
        """What a person wants to read: `730.1 ± 25.0 over 10 episodes, 77.2 % of the expert`.

        Where success is the task's score, that comes first, with its 95 % interval, and the return at the end.
        """
        episodes = f"over {self.episodes} episode{'s' * (self.episodes != 1)}"
        of_expert = "" if self.normalised is None else f", {100 * self.normalised:.1f} % of the expert"
        extras = "".join(f", {name} {value:.4g}" for name, value in self.extras.items() if name != self.headline)
        if self.headline == "return":
            return f"{self.mean:.1f} ± {self.std:.1f} {episodes}{of_expert}{extras}"
        elif self.headline == "success":
            rate = self.extras["success"]
            low, high = wilson_interval(rate, self.episodes)
            interval = f"95 % interval {100 * low:.0f} to {100 * high:.0f} %"
            return (
                f"success {100 * rate:.1f} % ({interval}) {episodes}{extras}, "
                f"return {self.mean:.1f} ± {self.std:.1f}{of_expert}"
            )
        else:
            raise ValueError(f"unknown score {self.headline!r}")

    @property
    def brief(self) -> str:
        """The task's score alone, for a progress bar: `730`, or `85 %` of successes."""
        return f"{self.mean:.0f}" if self.headline == "return" else f"{100 * self.extras[self.headline]:.0f} %"


def score(
    returns: Sequence[float],
    expert_return: float | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
    headline: ScoreName = "return",
) -> Score:
    """Summary of returns; the spread is the population's (n, not n − 1), so that one episode has none.

    scores: what else the task scores, one number per episode. headline: which is the task's score (`env.score`).

    Raises:
        ValueError: there is no return, or success is the task's score and not among `scores`.
    """
    extras = {name: float(_checked(each).mean()) for name, each in (scores or {}).items()}
    if headline == "success" and "success" not in extras:
        raise ValueError(f"success is to be the score, but the task scores only {', '.join(extras) or 'its return'}")
    values = _checked(returns)
    low, high = bootstrap_interval(values)
    mean = float(values.mean())
    return Score(
        mean=mean,
        std=float(values.std()),
        iqm=interquartile_mean(values),
        low=low,
        high=high,
        normalised=mean / expert_return if expert_return and expert_return > 0 else None,
        episodes=len(values),
        extras=extras,
        headline=headline,
    )


def interquartile_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean without the lowest and the highest quarter (⌊n/4⌋ each), as rliable takes it (Agarwal et al. 2021)."""
    from scipy.stats import trim_mean

    return float(trim_mean(_checked(values), 0.25))


def wilson_interval(rate: float, episodes: int) -> tuple[float, float]:
    """95 % interval of a probability from the share of successes (Wilson 1927); honest where all or none succeed."""
    from scipy.stats import binomtest

    interval = binomtest(round(rate * episodes), episodes).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean (Efron 1979), with a fixed seed; of one value, that value."""
    from scipy.stats import bootstrap

    known = _checked(values)
    if len(known) == 1:
        return float(known[0]), float(known[0])
    interval = bootstrap(
        (known,),
        np.mean,
        n_resamples=2000,
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _checked(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"need a list of at least one return, got shape {array.shape}")
    return array
