"""The learned planner on a point in the plane whose dynamics it does not know."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vmil.config.schema_planner import LearnedConfig
from vmil.errors import UserError
from vmil.experts.ensemble import Ensemble, StackedLinear
from vmil.experts.mppi import MPPIConfig
from vmil.experts.pddm import PDDM, train_pddm

LEARNED = LearnedConfig(rounds=3, rollouts=4, updates=200, hidden=32, batch_size=64, learning_rate=3e-3)
PLANNER = MPPIConfig(
    horizon=8, samples=64, iterations=1, kappa=5.0, beta=0.6, sigma=0.7, fine_share=0.1, fine_sigma=0.27
)


class Point:
    """A puck that glides: v' = 0.8 v + 0.3 M a with M a quarter turn, so that pushing straight at the goal is wrong."""

    observation_size, action_size = 4, 2

    def __init__(self):
        self.steps = 0

    def begin(self, episode):
        self.steps, self.total = 0, 0.0
        self.state = np.concatenate([np.random.default_rng(episode).uniform(-1, 1, 2), np.zeros(2)])
        return self.state.copy()

    def step(self, action):
        self.steps += 1
        self.state[2:] = 0.8 * self.state[2:] + 0.3 * np.array([-action[1], action[0]])
        self.state[:2] += self.state[2:]
        self.total += float(np.linalg.norm(self.state[:2]))
        return self.state.copy(), self.steps >= 20

    def cost(self, futures, first_step):
        return np.linalg.norm(futures[..., :2], axis=-1).sum(-1)

    def scores(self):
        return {"distance": self.total / self.steps}


def test_stacked_layers_are_linear_layers_side_by_side():
    layer = StackedLinear(2, 3, 4, torch.Generator().manual_seed(0))
    x = torch.randn(2, 5, 3)
    for index in range(2):
        single = nn.functional.linear(x[index], layer.weight[index].T, layer.bias[index, 0])
        assert torch.allclose(layer(x)[index], single, atol=1e-6)
    assert not torch.equal(layer.weight[0], layer.weight[1])


def test_futures_follow_each_network_on_its_own():
    ensemble = Ensemble(2, 1, LEARNED, seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 3, 1))
    futures = ensemble.foresee(np.array([0.5, -0.5]), actions)
    assert futures.shape == (3, 6, 3, 2)
    now = torch.tensor([0.5, -0.5]).expand(3, 6, 2)
    for t in range(3):
        now = ensemble(now, torch.from_numpy(actions[:, t]).float().expand(3, 6, 1))
        assert np.allclose(futures[:, :, t], now.detach().numpy(), atol=1e-6)
    assert not np.allclose(futures[0], futures[1])


def test_the_ensemble_learns_a_linear_map_in_units_of_any_size():
    generator = torch.Generator().manual_seed(0)
    observation = torch.randn(512, 2, generator=generator) * torch.tensor([1000.0, 0.001])
    action = torch.rand(512, 1, generator=generator)
    following = observation + torch.cat([100 * action, 1e-4 * (1 - action)], -1)
    ensemble = Ensemble(2, 1, LEARNED, seed=0)
    losses = ensemble.fit(observation, action, following)
    assert len(losses) == LEARNED.updates
    assert losses[-1] < 0.01 < losses[0]
    assert ensemble.optimizer.param_groups[0]["lr"] < 1e-6  # fallen to nothing
    assert ensemble.fit(observation, action, following)[-1] < losses[-1]  # and raised again


def test_the_papers_network_can_be_had():
    plain = Ensemble(2, 1, replace(LEARNED, norm=False, layers=2), seed=0).net
    assert [type(layer) for layer in plain] == [StackedLinear, nn.ReLU, StackedLinear, nn.ReLU, StackedLinear]


def test_planning_through_what_was_learnt_beats_chance(tmp_path: Path):
    pddm = train_pddm(PDDM(Point(), LEARNED, PLANNER, seed=0), tmp_path / "checkpoint.pt")
    distances = [line["distance"] for line in pddm.curve]
    assert len(distances) == LEARNED.rounds
    assert distances[0] > 1.0  # at random
    assert distances[2] < 0.4
    assert [len(episode) for episode in pddm.actions] == [20] * 12


def test_a_stopped_training_goes_on_as_if_never_stopped(tmp_path: Path):
    small = LearnedConfig(rounds=2, rollouts=2, updates=4, hidden=8, batch_size=16)
    straight = train_pddm(PDDM(Point(), small, PLANNER, seed=3), tmp_path / "straight.pt")
    half = LearnedConfig(**{**vars(small), "rounds": 1})
    train_pddm(PDDM(Point(), half, PLANNER, seed=3), tmp_path / "halved.pt")
    resumed = train_pddm(PDDM(Point(), small, PLANNER, seed=3), tmp_path / "halved.pt")
    assert [line["distance"] for line in resumed.curve] == [line["distance"] for line in straight.curve]
    for name, weight in straight.ensemble.state_dict().items():
        assert torch.equal(resumed.ensemble.state_dict()[name], weight), name
    with pytest.raises(UserError, match="not of seed 4"):
        train_pddm(PDDM(Point(), small, PLANNER, seed=4), tmp_path / "halved.pt")
    wide = LearnedConfig(**{**vars(small), "hidden": 9})
    with pytest.raises(UserError, match="another size"):
        train_pddm(PDDM(Point(), wide, PLANNER, seed=3), tmp_path / "halved.pt")
