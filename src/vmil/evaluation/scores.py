"""Scores of evaluated episodes: normalised by the expert, with spread and a confidence interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Mean, spread and 95 % interval of the mean of returns.

    `normalised` is the mean over the expert's, if that is known and positive.
    """

    mean: float
    std: float
    iqm: float
    low: float
    high: float
    normalised: float | None
    episodes: int

    def __str__(self) -> str:
        """What a person wants to read: `730.1 ± 25.0 over 10 episodes, 77.2 % of the expert`."""
        text = f"{self.mean:.1f} ± {self.std:.1f} over {self.episodes} episodes"
        return text if self.normalised is None else f"{text}, {100 * self.normalised:.1f} % of the expert"


def score(returns: Sequence[float], expert_return: float | None = None) -> Score:
    """Summary of returns; the spread is the population's (n, not n − 1), so that one episode has none.

    Raises:
        ValueError: there is no return.
    """
    values = _checked(returns)
    low, high = bootstrap_interval(values)
    mean = float(values.mean())
    return Score(
        mean=mean,
        std=float(values.std()),
        iqm=interquartile_mean(values),
        low=low,
        high=high,
        normalised=normalised(mean, expert_return) if expert_return and expert_return > 0 else None,
        episodes=len(values),
    )


def normalised(mean_return: float, expert_return: float) -> float:
    """Return over the expert's; 1 is as good as the demonstrations. ValueError unless the expert's is positive."""
    if expert_return <= 0:
        raise ValueError(f"cannot normalise by an expert return of {expert_return}")
    return mean_return / expert_return


def interquartile_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """Mean without the lowest and the highest quarter (⌊n/4⌋ each), as rliable takes it (Agarwal et al. 2021)."""
    ordered = np.sort(_checked(values))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], float] = lambda sample: float(sample.mean()),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic (Efron 1979); reproducible by its seed."""
    known = _checked(values)
    draws = np.random.default_rng(seed).integers(0, len(known), (resamples, len(known)))
    estimates = [statistic(known[draw]) for draw in draws]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(estimates, [tail, 100 - tail])
    return float(low), float(high)


def _checked(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"need a list of at least one return, got shape {array.shape}")
    return array
