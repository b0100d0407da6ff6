"""Several seeds as one curve: mean, interquartile mean and its bootstrap interval (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vmil.analysis.results import Axis, Curve, Run
from vmil.errors import UserError
from vmil.system.arrays import Floats

RESAMPLES = 2000
LAST_SHARE = 0.2  # of a run's frames: the evaluations in them make its final score


class Band(NamedTuple):
    """Seeds at the same moments; low and high bound the interquartile mean at 95 %, nan with a single seed."""

    x: Floats  # (N,) frames or hours
    mean: Floats  # (N,)
    iqm: Floats  # (N,)
    low: Floats  # (N,)
    high: Floats  # (N,)
    seeds: int


def align(curves: Sequence[Curve], axis: Axis) -> tuple[Floats, Floats]:
    """Curves at common moments: x (N,) and values (S, N), from where all have begun to where the first ends.

    The moments are those of all the curves; between its own readings a curve is interpolated linearly. Seeds of one
    experiment are evaluated at the same frames, and need no interpolation.
    """
    if not curves:
        raise ValueError("no curve to align")
    moments = [curve.moments(axis) for curve in curves]
    begin, end = max(each[0] for each in moments), min(each[-1] for each in moments)
    x = np.unique(np.concatenate(moments))
    x = x[(x >= begin) & (x <= end)]
    values = [np.interp(x, each, curve.values) for each, curve in zip(moments, curves, strict=True)]
    return x, np.stack(values)


def interquartile_means(scores: Floats) -> Floats:
    """Mean over seeds (S, …) without the lowest and the highest ⌊S/4⌋, at every other index."""
    from scipy.stats import trim_mean

    trimmed: Floats = np.asarray(trim_mean(scores, 0.25, axis=0), np.float64)
    return trimmed


def bootstrap(scores: Floats, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Floats, Floats]:
    """95 % percentile intervals (N,), (N,) of the interquartile mean of (S, N), by rliable's stratified bootstrap.

    Raises:
        UserError: rliable is not installed.
    """
    try:
        from rliable.library import get_interval_estimates
    except ModuleNotFoundError as error:
        raise UserError(f"figures need {error.name}: `pip install -e .[notebooks]`") from error
    before = np.random.get_state()  # noqa: NPY002  (rliable draws from numpy's global generator)
    np.random.seed(seed)  # noqa: NPY002
    try:
        # (seeds, tasks = 1, moments), as rliable wants them
        _, intervals = get_interval_estimates(
            {"all": scores[:, None]}, lambda draw: interquartile_means(draw[:, 0]), reps=resamples
        )
    finally:
        np.random.set_state(before)  # noqa: NPY002
    low, high = intervals["all"]
    return low, high


def band(runs: Sequence[Run], metric: str, axis: Axis, resamples: int = RESAMPLES) -> Band | None:
    """One metric of several seeds; None if none of them reported it."""
    curves = [curve for curve in (run.curve(metric) for run in runs) if curve is not None]
    if not curves:
        return None
    x, values = align(curves, axis)
    if not len(x):
        return None
    if len(curves) > 1:
        low, high = bootstrap(values, resamples)
    else:
        low = high = np.full(len(x), np.nan)
    return Band(x, values.mean(0), interquartile_means(values), low, high, len(curves))


def final_score(run: Run, budget: int | None = None) -> float | None:
    """Mean of the evaluations in the last fifth of a run's frames, at least the last one; None: never evaluated.

    budget: frames after which evaluations do not count; None: the whole run counts.
    """
    curve = run.curve(run.score)
    end = run.card.frames if budget is None else min(budget, run.card.frames)
    if curve is None or not (curve.frames <= end).any():
        return None
    values, frames = curve.values[curve.frames <= end], curve.frames[curve.frames <= end]
    late = frames >= (1 - LAST_SHARE) * end
    late[-1] = True
    return float(values[late].mean())


def common_budget(runs: Sequence[Run]) -> int | None:
    """The frames of the last evaluation of the run that ends first, where all can be compared; None: no run has one."""
    curves = [curve for curve in (run.curve(run.score) for run in runs) if curve is not None]
    return min((int(curve.frames[-1]) for curve in curves), default=None)


class Decline(NamedTuple):
    """How far a run fell from its best."""

    best: float
    best_frames: int
    last: float

    @property
    def drop(self) -> float:
        """Share of the best that is lost at the end."""
        return 1 - self.last / self.best if self.best > 0 else 0.0


def decline(run: Run) -> Decline | None:
    """Best and last evaluation of a run; None with fewer than two, which cannot show a decline."""
    curve = run.curve(run.score)
    if curve is None or len(curve.values) < 2:
        return None
    top = int(curve.values.argmax())
    return Decline(float(curve.values[top]), int(curve.frames[top]), float(curve.values[-1]))
