"""Seeds as one curve: hand arithmetic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vmil.analysis.aggregate import (
    ENOUGH_SEEDS,
    align,
    band,
    bootstrap,
    common_end,
    final_score,
    interquartile_means,
    lasting,
    spread,
)
from vmil.analysis.degradation import decline
from vmil.analysis.plots import apart
from vmil.analysis.results import Card, Curve, Run
from vmil.evaluation.scores import interquartile_mean
from vmil.tracking.curves import Point

CARD = Card("walker", "vmil", "base", 0, 10, 0, 0.0, "FINISHED", None, "make train", "0123abc", "a machine")


def make_run(values: dict[int, float], frames: int = 0, metric: str = "eval/return") -> Run:
    points = tuple(Point(at, 3.6 * at, metric, value) for at, value in values.items())
    return Run("run", replace(CARD, frames=frames or max(values)), points, Path())


def make_curve(frames: list[int], values: list[float]) -> Curve:
    return Curve(np.array(frames), np.array(frames) / 100, np.array(values))


def test_seeds_evaluated_at_the_same_frames_are_not_interpolated() -> None:
    x, values = align([make_curve([10, 20, 30], [1, 2, 9]), make_curve([10, 20], [3, 6])])
    assert x.tolist() == [10, 20]  # up to where the first ends
    assert values.tolist() == [[1, 2], [3, 6]]


def test_between_its_readings_a_curve_is_straight() -> None:
    x, values = align([make_curve([0, 100], [0, 10]), make_curve([50, 200], [4, 7])])
    assert x.tolist() == [50, 100]
    assert values.tolist() == [[5, 10], [4, 5]]


def test_the_interquartile_mean_of_eight_seeds() -> None:
    scores = np.array([100, 0, 3, 4, 5, 6, -50, 1000], float)[:, None]
    assert interquartile_means(scores) == pytest.approx([(3 + 4 + 5 + 6) / 4])
    for count in range(1, 9):  # the one of a single evaluation's episodes is the same
        assert interquartile_means(scores[:count])[0] == pytest.approx(interquartile_mean(scores[:count, 0]))


def test_the_interval_is_rliable_s_reproducible_and_leaves_the_global_generator_alone() -> None:
    scores = np.array([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0], [4.0, 10.0]])
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    low, high = bootstrap(scores, resamples=300)
    assert np.random.get_state()[1].tolist() == before
    assert (low.tolist(), high.tolist()) == tuple(each.tolist() for each in bootstrap(scores, resamples=300))
    assert 1 <= low[0] < interquartile_means(scores)[0] < high[0] <= 4
    assert (low[1], high[1]) == (10, 10)


def test_a_band_of_two_seeds_and_of_one() -> None:
    two = band([make_run({10: 1, 20: 5}), make_run({10: 3, 20: 7})], "eval/return")
    assert two is not None
    assert (two.x.tolist(), two.mean.tolist(), two.iqm.tolist(), two.seeds) == ([10, 20], [2, 6], [2, 6], 2)
    assert (two.low.tolist(), two.high.tolist()) == ([1, 5], [3, 7])
    one = band([make_run({10: 1, 20: 5})], "eval/return")
    assert one is not None
    assert (one.x.tolist(), one.iqm.tolist(), one.seeds) == ([10, 20], [1, 5], 1)
    assert np.isnan(one.low).all()  # one seed says nothing of its spread
    assert band([make_run({10: 1})], "disc/accuracy") is None
    assert band([make_run({9: 1}), make_run({10: 1})], "eval/return") is None  # never at the same time


def test_a_short_seed_does_not_cut_the_common_curve() -> None:
    """Of 100 frames 80 are enough, and 79 are not."""
    long, enough, short = make_run({20: 1, 100: 3}), make_run({20: 3, 80: 5}), make_run({20: 9, 79: 9})
    assert lasting([short, long, make_run({9: 1}, metric="model/kl"), enough], "eval/return") == [long, enough]
    assert lasting([], "eval/return") == []
    together = band([short, long, enough], "eval/return")
    assert together is not None
    assert (together.x.tolist(), together.iqm.tolist(), together.seeds) == ([20, 80], [2, 3.75], 2)


def test_what_is_called_an_interval_is_narrower_than_the_range() -> None:
    """A bootstrap of fewer seeds comes to the lowest one too often: it is their range, and is called so."""
    scores = np.array([0, 25, 50, 75, 100], float)[:, None]
    for count in range(2, 6):
        low, high = bootstrap(scores[:count])
        narrower = bool(0 < low[0] < high[0] < scores[count - 1, 0])
        assert narrower == (count >= ENOUGH_SEEDS)
        assert [each[0] for each in spread(scores[:count])] == [low[0], high[0]]


def test_the_final_score_is_the_last_fifth_s_or_the_last_one() -> None:
    assert final_score(make_run({20: 1, 40: 2, 60: 3, 80: 4, 100: 8})) == 6
    assert final_score(make_run({20: 1, 40: 2}, frames=100)) == 2
    assert final_score(make_run({20: 1}, metric="collect/return")) is None
    long = make_run({20: 1, 40: 2, 60: 3, 80: 4, 100: 8})
    assert final_score(long, budget=50) == 2
    assert final_score(long, budget=10) is None
    assert final_score(long, budget=500) is None  # it did not come so far
    assert final_score(make_run({20: 0.25}, metric="eval/success")) == 0.25  # a task with success is scored by it


def test_runs_are_compared_at_what_all_that_were_evaluated_came_to() -> None:
    """At the last evaluation of the one that ends first: what it collected after that is not in its score."""
    short = make_run({30: 1}, frames=40)
    other = replace(short, card=replace(short.card, algo="bc"))
    runs = [make_run({20: 1, 100: 8}), other, make_run({9: 1}, metric="model/kl")]
    assert common_end(runs, "frames") == 30
    assert common_end(runs, "hours") == 0.03
    assert common_end([runs[0], short], "frames") == 100  # of one algorithm the short seed does not count
    assert common_end(runs[2:], "frames") is None


def test_the_decline_from_the_best() -> None:
    fall = decline(make_run({20: 100, 40: 800, 60: 300, 80: 200, 100: 400}))
    assert fall is not None
    assert (fall.best, fall.best_frames, fall.last, fall.late) == (800, 40, 400, 300)
    assert decline(make_run({10: 100, 20: 800, 30: 300, 40: 200})) is None


@pytest.mark.parametrize(
    ("places", "expected"),
    [([], []), ([0.2, 0.5], [0.2, 0.5]), ([0.2, 0.2, 0.2], [0.2, 0.3, 0.4]), ([0.95, 0.96, 1.0], [0.8, 0.9, 1.0])],
)
def test_labels_are_moved_apart(places: list[float], expected: list[float]) -> None:
    assert apart(places, 0.1) == pytest.approx(expected)
