"""Several seeds as one curve: mean, interquartile mean and its bootstrap interval (Agarwal et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vmil.analysis.results import Axis, Curve, Run
from vmil.errors import UserError
from vmil.system.arrays import Floats

RESAMPLES = 2000
ENOUGH_SEEDS = 5  # for the bootstrap interval to be narrower than the range: of four, 5 % of draws are the lowest
LAST_SHARE = 0.2  # of a run's frames: the evaluations in them make its final score
LASTING = 0.8  # of the longest seed's frames: a common curve would end with a seed that ends before


class Band(NamedTuple):
    """Seeds at the same moments; low and high are their `spread`."""

    x: Floats  # (N,) frames
    mean: Floats  # (N,)
    iqm: Floats  # (N,)
    low: Floats  # (N,)
    high: Floats  # (N,)
    seeds: int


def lasting(runs: Sequence[Run], metric: str) -> list[Run]:
    """Of the seeds of one experiment those whose last reading is at 0.8 of the longest one's frames, or later."""
    ends = [-1 if (curve := run.curve(metric)) is None else int(curve.frames[-1]) for run in runs]
    least = max(0, LASTING * max(ends, default=0))
    return [run for run, end in zip(runs, ends, strict=True) if end >= least]


def align(curves: Sequence[Curve]) -> tuple[Floats, Floats]:
    """Curves at common frames: x (N,) and values (S, N), from where all have begun to where the first ends.

    The moments are those of all the curves; between its own readings a curve is interpolated linearly. Seeds of one
    experiment are evaluated at the same frames, and need no interpolation.
    """
    if not curves:
        raise ValueError("no curve to align")
    moments = [curve.moments("frames") for curve in curves]
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


def spread(scores: Floats, resamples: int = RESAMPLES) -> tuple[Floats, Floats]:
    """How far scores (S, N) lie apart, (N,), (N,): the `bootstrap` of five seeds, the range of fewer, nan of one."""
    if len(scores) < ENOUGH_SEEDS:
        alone = len(scores) == 1
        return (np.full_like(scores[0], np.nan),) * 2 if alone else (scores.min(0), scores.max(0))
    return bootstrap(scores, resamples)


def band(runs: Sequence[Run], metric: str, resamples: int = RESAMPLES) -> Band | None:
    """One metric of the `lasting` ones among seeds; None if none reported it, or never at the same time."""
    curves = [curve for curve in (run.curve(metric) for run in lasting(runs, metric)) if curve is not None]
    if not curves:
        return None
    x, values = align(curves)
    if not len(x):
        return None
    return Band(x, values.mean(0), interquartile_means(values), *spread(values, resamples), len(curves))


def final_score(run: Run, budget: float | None = None) -> float | None:
    """Mean of the evaluations in the last fifth of a run's frames, at least the last one; None: never evaluated.

    budget: frames after which evaluations do not count, and which those of the run must have come to; None: all count.
    """
    curve = run.curve(run.score)
    end = run.card.frames if budget is None else budget
    if curve is None or not (curve.frames <= end).any() or (budget is not None and curve.frames[-1] < budget):
        return None
    values, frames = curve.values[curve.frames <= end], curve.frames[curve.frames <= end]
    late = frames >= (1 - LAST_SHARE) * end
    late[-1] = True
    return float(values[late].mean())


def common_end(runs: Sequence[Run], axis: Axis) -> float | None:
    """The last evaluation, in frames or hours, of the run that ends first; None: none was evaluated.

    Of the seeds of one algorithm and variant the `lasting` ones count.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.card.algo, run.card.variant), []).append(run)
    kept = [run for group in groups.values() for run in lasting(group, group[0].score)]
    return min((float(c.moments(axis)[-1]) for run in kept if (c := run.curve(run.score)) is not None), default=None)
