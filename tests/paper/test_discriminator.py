"""Hand arithmetic for D's loss, its penalties and its rewards."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from vmil.discriminator.loss import (
    cross_entropy,
    discriminator_loss,
    input_penalty,
    noise_std,
    penalty_loss,
    weight_penalty,
)
from vmil.discriminator.network import Discriminator, Triples
from vmil.discriminator.reward import reward_from_logit


class Quadratic(nn.Module):
    """D(o, a) = o + a²: its gradient at (o, 1) is (1, 2)."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[..., 0] + inputs[..., 1].square()


def make(next_state: bool = True, spectral: bool = False) -> Discriminator:
    return Discriminator(3, 2, 8, 2, "elu", next_state=next_state, spectral=spectral)


def test_cross_entropy_by_hand() -> None:
    expert, policy = torch.tensor([0.0, math.log(3.0)]), torch.tensor([0.0])  # D = ½, ¾ and ½
    by_hand = 0.5 * (0.5 * (math.log(2) + math.log(4 / 3)) + math.log(2))
    assert float(cross_entropy(expert, policy)) == pytest.approx(by_hand)


def test_input_penalty_by_hand() -> None:
    at_one = torch.tensor([[0.3, 1.0], [-2.0, 1.0]])
    penalty, norm = input_penalty(Quadratic(), at_one, at_one, target=0.0)
    assert float(penalty) == pytest.approx(1**2 + 2**2)
    assert float(norm) == pytest.approx(math.sqrt(5))
    penalty, _ = input_penalty(Quadratic(), at_one, at_one, target=1.0)
    assert float(penalty) == pytest.approx((math.sqrt(5) - 1) ** 2)


def test_input_penalty_lies_between_expert_and_policy() -> None:
    expert, policy = torch.tensor([[0.0, 2.0]] * 64), torch.tensor([[0.0, 1.0]] * 64)
    penalty, _ = input_penalty(Quadratic(), expert, policy, target=0.0)
    assert 1 + 2**2 < float(penalty) < 1 + 4**2


def test_weight_penalty_by_hand() -> None:
    net = nn.Linear(1, 1)
    nn.init.constant_(net.weight, 2.0)
    nn.init.constant_(net.bias, -1.0)
    same = torch.tensor([[3.0], [3.0]])  # of which every mixture is the same; the mean logit is 3 w + b
    norm = (3.0**2 + 1.0) ** 0.5  # of its gradient by (w, b)
    assert float(weight_penalty(net, same, same, 1.0)) == pytest.approx((norm - 1.0) ** 2)
    assert float(weight_penalty(net, same, same, 0.0)) == pytest.approx(norm**2)


def test_weight_penalty_moves_the_weights_and_not_its_inputs() -> None:
    net = nn.Sequential(nn.Linear(2, 8), nn.ELU(), nn.Linear(8, 1))
    expert, policy = torch.randn(6, 2, requires_grad=True), torch.randn(9, 2)
    weight_penalty(net, expert, policy, 1.0).backward()
    assert expert.grad is None
    assert all(weight.grad is not None for weight in list(net.parameters())[:-1])


def test_no_penalty_is_zero_and_unknown_raises() -> None:
    rows = torch.randn(4, 8)
    assert float(penalty_loss("none", make(), rows, rows, 1.0)[0]) == 0.0
    with pytest.raises(ValueError, match="dropout"):
        penalty_loss("dropout", make(), rows, rows, 1.0)  # type: ignore[arg-type]


def test_noise_schedules() -> None:
    assert noise_std("none", 0.2, 0, 100) == 0.0
    assert noise_std("constant", 0.2, 99, 100) == 0.2
    assert [noise_std("annealed", 0.2, frames, 100) for frames in (0, 50, 100, 500)] == [0.2, 0.1, 0.0, 0.0]
    with pytest.raises(ValueError, match="cosine"):
        noise_std("cosine", 0.2, 0, 100)  # type: ignore[arg-type]


@pytest.mark.parametrize("std", [0.0, 0.5])
def test_noise_blurs_expert_and_policy_alike(std: float) -> None:
    """On one side alone it would tell D who is who."""
    net, read, still = make(), [], torch.zeros(4096, 8)
    net.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    torch.manual_seed(0)
    discriminator_loss(net, still, still, std=std, penalty="none", penalty_scale=0.0, penalty_target=0.0)
    assert len(read) == 2
    assert [float(rows.std()) for rows in read] == pytest.approx([std, std], rel=0.02)
    assert std == 0.0 or not torch.equal(*read)


def test_metrics_say_who_is_taken_for_whom() -> None:
    class Sum(Discriminator):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.sum(-1)

    net = Sum(1, 1, 2, 1, "elu", next_state=False, spectral=False)
    expert, policy = torch.tensor([[1.0, 1.0], [-3.0, 1.0]]), torch.tensor([[-1.0, 0.0], [-1.0, -1.0]])
    _, metrics = discriminator_loss(net, expert, policy, std=0.0, penalty="none", penalty_scale=0, penalty_target=0)
    assert float(metrics["disc/accuracy"]) == pytest.approx(0.5 * (0.5 + 1.0))
    assert float(metrics["disc/expert_prob"]) == pytest.approx(0.5 * sum(1 / (1 + math.exp(-x)) for x in (2, -2)))


def test_next_state_is_read_only_if_asked() -> None:
    one = Triples(torch.randn(4, 3), torch.randn(4, 2), torch.randn(4, 3))
    two = one._replace(next_feat=torch.randn(4, 3))
    blind, seeing = make(next_state=False), make(next_state=True)
    torch.testing.assert_close(blind(blind.inputs(one)), blind(blind.inputs(two)))
    assert not torch.allclose(seeing(seeing.inputs(one)), seeing(seeing.inputs(two)))


def test_actions_weigh_as_much_as_asked_and_latents_as_before() -> None:
    triples = Triples(torch.ones(5, 3), torch.ones(5, 2), torch.full((5, 3), 2.0))
    scaled = Discriminator(3, 2, 8, 2, "elu", next_state=True, spectral=False, action_scale=4.0)
    assert scaled.inputs(triples).tolist() == [[1.0] * 3 + [4.0] * 2 + [2.0] * 3] * 5


def test_spectral_norm_bounds_every_layer() -> None:
    net = make(spectral=True)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            with torch.no_grad():
                module.parametrizations.weight.original.mul_(50.0)  # type: ignore[union-attr, operator]
            for _ in range(50):
                weight = module.weight
            assert float(torch.linalg.matrix_norm(weight, 2).detach()) == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("probability", 0.75),
        ("log_d", math.log(0.75)),
        ("neg_log_one_minus_d", -math.log(0.25)),
        ("logit", math.log(3.0)),
    ],
)
def test_reward_maps_at_d_of_three_quarters(kind: str, value: float) -> None:
    assert float(reward_from_logit(kind, torch.tensor(math.log(3.0)))) == pytest.approx(value)  # type: ignore[arg-type]


def test_rewards_are_finite_where_d_is_saturated() -> None:
    logits = torch.tensor([-200.0, 200.0])
    for kind in ("probability", "log_d", "neg_log_one_minus_d", "logit"):
        assert torch.isfinite(reward_from_logit(kind, logits)).all()
    with pytest.raises(ValueError, match="wasserstein"):
        reward_from_logit("wasserstein", logits)  # type: ignore[arg-type]


def test_it_learns_to_tell_two_clouds_apart_and_not_one_from_itself() -> None:
    def accuracy(shift: float) -> float:
        torch.manual_seed(0)
        net = make()
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(80):
            expert, policy = torch.randn(128, 8) + shift, torch.randn(128, 8)
            loss, _ = discriminator_loss(
                net, expert, policy, std=0.0, penalty="input", penalty_scale=1.0, penalty_target=1.0
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        expert, policy = torch.randn(2048, 8) + shift, torch.randn(2048, 8)
        return float(0.5 * ((net(expert) > 0).float().mean() + (net(policy) <= 0).float().mean()))

    assert accuracy(1.0) > 0.85
    assert 0.45 < accuracy(0.0) < 0.55
