"""Scores by hand."""

import numpy as np
import pytest

from vmil.evaluation.scores import bootstrap_interval, interquartile_mean, normalised, score


def test_summary_by_hand() -> None:
    result = score([100.0, 300.0], expert_return=400.0)
    assert (result.mean, result.std, result.normalised, result.episodes) == (200.0, 100.0, 0.5, 2)
    assert str(result) == "200.0 ± 100.0 over 2 episodes, 50.0 % of the expert"


def test_without_an_expert_there_is_no_normalised_score() -> None:
    assert score([5.0]).normalised is None
    assert str(score([5.0])) == "5.0 ± 0.0 over 1 episodes"


def test_the_interquartile_mean_forgets_a_quarter_at_each_end() -> None:
    assert interquartile_mean([1000.0, 2.0, 4.0, -1000.0]) == 3.0
    assert interquartile_mean([1.0, 2.0, 6.0]) == 3.0  # three are too few to forget any
    assert interquartile_mean(range(8)) == np.mean([2, 3, 4, 5])


def test_the_bootstrap_interval_is_that_of_a_normal_mean() -> None:
    values = np.random.default_rng(0).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    half_width = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half_width, abs=0.03)
    assert high == pytest.approx(values.mean() + half_width, abs=0.03)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, confidence=0.5)[0] > low


def test_one_episode_has_no_spread() -> None:
    assert bootstrap_interval([7.0]) == (7.0, 7.0)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        score([])
    with pytest.raises(ValueError, match="expert return of 0"):
        normalised(1.0, 0.0)
