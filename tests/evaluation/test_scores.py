"""Scores by hand."""

import numpy as np
import pytest

from vmil.evaluation.scores import bootstrap_interval, interquartile_mean, score, wilson_interval


def test_summary_by_hand() -> None:
    result = score([100.0, 300.0], expert_return=400.0)
    assert (result.mean, result.std, result.normalised, result.episodes) == (200.0, 100.0, 0.5, 2)
    assert str(result) == "200.0 ± 100.0 over 2 episodes, 50.0 % of the expert"


def test_without_an_expert_there_is_no_normalised_score() -> None:
    assert score([5.0]).normalised is None
    assert str(score([5.0])) == "5.0 ± 0.0 over 1 episode"


def test_success_comes_first_where_it_is_the_task_s_score():
    scores = {"success": [1.0, 0.0, 1.0, 1.0], "tracking_error": [0.01, 0.04, 0.02, 0.01]}
    result = score([10.0, 0.0, 10.0, 20.0], 20.0, scores, headline="success")
    assert result.extras == {"success": 0.75, "tracking_error": 0.02}
    assert str(result) == (
        "success 75.0 % (95 % interval 30 to 95 %) over 4 episodes, tracking_error 0.02, "
        "return 10.0 ± 7.1, 50.0 % of the expert"
    )
    assert result.brief == "75 %"
    assert str(score([10.0], None, {"success": [1.0]})) == "10.0 ± 0.0 over 1 episode, success 1"
    assert score([730.4]).brief == "730"


def test_a_task_without_success_cannot_be_scored_by_it():
    with pytest.raises(ValueError, match="the task scores only its return"):
        score([1.0], headline="success")


def test_wilson_by_hand():
    # 20 of 20: z²/(2n) = 0.09604, z²/n = 0.19208; centre 1.09604/1.19208, half the width 1.96·(1.96/40)/1.19208.
    assert wilson_interval(1.0, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    low, high = wilson_interval(0.3, 40)
    assert wilson_interval(0.7, 40) == pytest.approx((1 - high, 1 - low))


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


def test_one_episode_has_no_spread() -> None:
    assert bootstrap_interval([7.0]) == (7.0, 7.0)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        score([])
