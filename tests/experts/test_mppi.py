"""The planner on arithmetic that can be done by hand, and on a point that has to reach a place."""

from dataclasses import replace

import numpy as np
import pytest

from vmil.experts.mppi import MPPI, MPPIConfig, smooth, weigh

PAPER = MPPIConfig(
    horizon=7, samples=150, iterations=1, kappa=20.0, beta=0.6, sigma=0.9, fine_share=0.1, fine_sigma=0.27
)


def test_weights_by_hand():
    # κ = 2 and costs 1, 1.5: weights 1 and e⁻¹ = 0.367879; the mean of actions 1 and 0 is 1 / 1.367879.
    sequences = np.array([[[1.0]], [[0.0]]])
    assert weigh(sequences, np.array([1.0, 1.5]), kappa=2.0) == pytest.approx(np.array([[0.731059]]), abs=1e-6)


def test_adding_a_constant_to_all_costs_changes_nothing():
    sequences, costs = np.random.default_rng(0).normal(size=(5, 3, 2)), np.arange(5.0)
    assert weigh(sequences, costs + 1e6, 1.0) == pytest.approx(weigh(sequences, costs, 1.0))


def test_a_cost_that_is_no_number_has_no_weight():
    sequences = np.array([[[1.0]], [[-1.0]], [[0.5]]])
    for kappa in (20.0, 0.0):
        assert weigh(sequences, np.array([np.nan, np.inf, 3.0]), kappa).item() == 0.5
    with pytest.raises(ValueError, match="no sequence has a finite cost"):
        weigh(sequences, np.full(3, np.nan), kappa=20.0)


def test_smoothing_by_hand():
    # β = 0.6: 0.6 · 1 = 0.6, then 0.6 · 0 + 0.4 · 0.6 = 0.24, then 0.6 · (-1) + 0.4 · 0.24 = -0.504.
    noise = np.array([1.0, 0.0, -1.0])[None, :, None]
    assert smooth(noise, 0.6).ravel() == pytest.approx([0.6, 0.24, -0.504])
    assert (smooth(noise, 1.0) == noise).all()


def test_proposals_hold_the_plan_itself_and_the_finer_noise():
    planner = MPPI(replace(PAPER, horizon=3, samples=2000, beta=1.0, sigma=0.2, fine_share=0.5, fine_sigma=0.05), 2, 0)
    planner.plan[:] = 0.1
    sequences = planner.propose()
    assert sequences.shape == (2000, 3, 2)
    assert (sequences[0] == planner.plan).all()
    assert sequences[1:1000].std() == pytest.approx(0.05, rel=0.05)
    assert sequences[1000:].std() == pytest.approx(0.2, rel=0.05)
    planner.plan[:] = 0.99
    assert np.abs(planner.propose()).max() == 1.0


def test_the_plan_moves_on_by_one_step():
    planner = MPPI(replace(PAPER, horizon=3, samples=1), 1, seed=0)  # its only sequence is the plan itself
    planner.plan[:] = np.array([[0.1], [0.2], [0.3]])
    assert planner.act(lambda sequences: np.zeros(1)).item() == 0.1
    assert planner.plan.ravel().tolist() == [0.2, 0.3, 0.3]


def test_every_iteration_evaluates_all_samples_and_the_seed_decides():
    def plan(seed):
        calls = []

        def evaluate(sequences):
            calls.append(sequences)
            return np.square(sequences - 0.5).sum((1, 2))

        action = MPPI(replace(PAPER, horizon=2, samples=20, iterations=3), 1, seed).act(evaluate)
        assert [call.shape for call in calls] == [(20, 2, 1)] * 3
        return action.item()

    assert plan(0) == plan(0)
    assert plan(0) != plan(1)


def test_it_drives_a_point_to_its_place_and_holds_it_there():
    """Double integrator x'' = a, steps of 0.1 s, from x = 0 to x = 1; |a| ≤ 1."""

    def foresee(position, speed, accelerations):  # (N, H, 1) -> positions (N, H)
        speeds = speed + 0.1 * np.cumsum(accelerations[..., 0], axis=1)
        return position + 0.1 * np.cumsum(speeds, axis=1)

    planner = MPPI(replace(PAPER, horizon=15, samples=100, kappa=10.0), 1, seed=0)
    position, speed, distances = 0.0, 0.0, []
    for _ in range(50):
        action = planner.act(lambda a: np.square(foresee(position, speed, a) - 1.0).sum(1)).item()  # noqa: B023
        speed += 0.1 * action
        position += 0.1 * speed
        distances.append(abs(position - 1.0))
    assert distances[9] > 0.44  # at full thrust all the way it would have come 0.1² · (1 + ... + 10) = 0.55 far
    assert max(distances[-10:]) < 0.1
