"""Returns by hand and by TorchRL, the policy's distributions, actor and critic losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torchrl.objectives.value.functional import vec_td_lambda_return_estimate

from vmil.behaviour.actor import ActionHead, Actor, ClippedNormal, ClippedNormalHead, TanhNormal, TanhNormalHead
from vmil.behaviour.critic import Critic
from vmil.behaviour.loss import actor_loss, cloning_loss, cloning_weight, critic_loss
from vmil.behaviour.returns import ReturnRange, lambda_return


def make_actor(kind: str, init_std: float) -> Actor:
    heads: dict[str, Callable[[], ActionHead]] = {
        "tanh_normal": lambda: TanhNormalHead(mean_scale=5.0, init_std=init_std, min_std=0.1),
        "clipped_normal": lambda: ClippedNormalHead(init_std=init_std, min_std=0.1, max_std=1.1),
    }
    return Actor(5, 2, 8, 1, "elu", "none", heads[kind]())


def test_lambda_return_by_hand() -> None:
    reward, value = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [20.0], [30.0]])
    last = 2 + 0.5 * 30
    first = 1 + 0.5 * (0.75 * 20 + 0.25 * last)
    torch.testing.assert_close(lambda_return(reward, value, 0.5, 0.25), torch.tensor([[first], [last]]))


def test_lambda_zero_is_one_step_and_lambda_one_is_monte_carlo() -> None:
    reward, value = torch.randn(4, 3), torch.randn(5, 3)
    torch.testing.assert_close(lambda_return(reward, value, 0.9, 0.0), reward + 0.9 * value[1:])
    rest = value[-1]
    for t in reversed(range(4)):
        rest = reward[t] + 0.9 * rest
        torch.testing.assert_close(lambda_return(reward, value, 0.9, 1.0)[t], rest)


def test_lambda_return_agrees_with_torchrl() -> None:
    reward, value = torch.randn(7, 3), torch.randn(8, 3)
    never = torch.zeros(3, 7, 1, dtype=torch.bool)
    reference = vec_td_lambda_return_estimate(
        0.97, 0.9, value[1:].T[..., None], reward.T[..., None], done=never, terminated=never
    )
    torch.testing.assert_close(lambda_return(reward, value, 0.97, 0.9), reference[..., 0].T)


def test_lambda_return_wants_one_value_more() -> None:
    with pytest.raises(ValueError, match="4 rewards need 5 values, not 4"):
        lambda_return(torch.zeros(4, 1), torch.zeros(4, 1), 0.9, 0.9)


def test_return_range_follows_and_has_no_floor_of_one() -> None:
    running, returns, value = ReturnRange(decay=0.9), torch.linspace(0.0, 0.2, 101), torch.zeros(101)
    assert float(running.update("returns", returns, value)) == pytest.approx(0.18, rel=1e-4)  # the first batch sets it
    assert float(running.update("returns", 10 * returns, value)) == pytest.approx(0.9 * 0.18 + 0.1 * 1.8, rel=1e-4)
    assert float(ReturnRange().update("returns", torch.zeros(5), torch.zeros(5))) > 0.0


def test_the_range_of_advantages_leaves_out_what_the_states_are_worth() -> None:
    value = torch.tensor([0.0, 1000.0]).repeat(50)
    returns = value + torch.linspace(-0.5, 0.5, 100)
    assert float(ReturnRange().update("advantages", returns, value)) == pytest.approx(0.9, rel=1e-3)
    assert float(ReturnRange().update("returns", returns, value)) > 900.0
    assert float(ReturnRange().update("none", returns, value)) == 1.0
    with pytest.raises(ValueError, match="rank"):
        ReturnRange().update("rank", returns, value)  # type: ignore[arg-type]


def test_what_is_not_finite_does_not_count_for_the_range() -> None:
    running, nothing = ReturnRange(decay=0.9), torch.full((5,), float("nan"))
    running.update("returns", nothing, nothing)
    assert (float(running.range), float(running.initialised)) == (1.0, 0.0)
    running.update("returns", torch.linspace(0.0, 2.0, 101), torch.zeros(101))
    before = float(running.range)
    assert before == pytest.approx(1.8, rel=1e-3)
    assert float(running.update("returns", nothing, nothing)) == before
    assert (float(running.range), float(running.initialised)) == (before, 1.0)


@pytest.mark.parametrize(("kind", "std"), [("tanh_normal", 5.0), ("clipped_normal", 0.6)])
def test_an_untrained_actor_has_mean_0_and_the_configured_std_in_every_state(kind: str, std: float) -> None:
    actor = make_actor(kind, std)
    expected = std + (0.1 if kind == "tanh_normal" else 0.0)  # softplus + floor, as Dreamer adds it
    distribution = actor(torch.randn(3, 5))
    torch.testing.assert_close(distribution.std, torch.full((3, 2), expected))
    assert torch.equal(distribution.mode(), torch.zeros(3, 2))


@pytest.mark.parametrize("slow", [0.0, 0.02])
def test_an_untrained_critic_holds_every_state_worth_nothing(slow: float) -> None:
    critic, feat = Critic(3, 4, 1, "elu", "none", slow), torch.randn(5, 3)
    assert torch.equal(critic(feat), torch.zeros(5))
    assert torch.equal(critic.target(feat), torch.zeros(5))


def test_a_head_refuses_a_first_scale_that_it_cannot_have() -> None:
    with pytest.raises(ValueError, match="init_std"):
        ClippedNormalHead(init_std=3.0, min_std=0.1, max_std=1.1)


def test_a_head_s_range_by_hand() -> None:
    raw, mean = torch.tensor([[-50.0], [0.0], [50.0]]), torch.tensor([[-50.0], [0.5], [50.0]])
    bounded = ClippedNormalHead(init_std=0.35, min_std=0.1, max_std=1.1)(mean, raw)
    torch.testing.assert_close(bounded.std, torch.tensor([[0.1], [0.35], [1.1]]))
    torch.testing.assert_close(bounded.mean, torch.tensor([[-1.0], [math.tanh(0.5)], [1.0]]))
    open_ended = TanhNormalHead(mean_scale=5.0, init_std=2.0, min_std=0.1)(mean, raw)
    torch.testing.assert_close(open_ended.mean, torch.tensor([[-5.0], [5 * math.tanh(0.1)], [5.0]]))
    torch.testing.assert_close(open_ended.std, torch.tensor([[0.1], [2.1], [50 + math.log(math.expm1(2.0)) + 0.1]]))


@pytest.mark.parametrize(("kind", "std"), [("tanh_normal", 5.0), ("clipped_normal", 0.6)])
def test_actions_stay_in_their_box_and_carry_gradients(kind: str, std: float) -> None:
    actor = make_actor(kind, std)
    action, entropy = actor(torch.randn(64, 5)).sample(3 * torch.randn(64, 2))
    assert action.abs().max() <= 1.0
    assert entropy.shape == (64,)
    action.sum().backward()
    assert all(weight.grad is not None for weight in actor.parameters())


def test_clipped_actions_keep_the_gradient_of_the_unclipped() -> None:
    mean = torch.tensor([[0.9]], requires_grad=True)
    action, _ = ClippedNormal(mean, torch.tensor([[0.5]])).sample(torch.tensor([[2.0]]))
    assert float(action.detach()) == 1.0
    action.sum().backward()
    assert float(mean.grad) == 1.0  # type: ignore[arg-type]


def test_tanh_normal_estimates_its_entropy_by_its_own_samples() -> None:
    policy = TanhNormal(torch.zeros(50_000, 1), torch.full((50_000, 1), 0.3))
    action, entropy = policy.sample(torch.randn(50_000, 1))
    torch.testing.assert_close(entropy, -policy.log_prob(action), atol=1e-3, rtol=1e-3)
    known = torch.distributions.Normal(0.0, 0.3).entropy() + torch.log1p(-action.square()).mean()
    assert float(entropy.mean()) == pytest.approx(float(known), abs=0.02)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_tanh_normal_s_density_at_the_edge_is_that_just_inside(side: float) -> None:
    """As where a demonstration gives full throttle: at ±1 itself atanh is infinite."""
    inside = side * (1 - 1e-3)
    known = torch.distributions.Normal(0.3, 0.5).log_prob(torch.tensor(inside).atanh()) - math.log(1 - inside**2)
    mean, std = torch.full((1, 1), 0.3, requires_grad=True), torch.full((1, 1), 0.5)
    density = TanhNormal(mean, std).log_prob(torch.tensor([[side]]))
    assert float(density.detach()) == pytest.approx(float(known), rel=1e-4)
    density.sum().backward()
    assert float(mean.grad) == pytest.approx((math.atanh(inside) - 0.3) / 0.25, rel=1e-4)  # type: ignore[arg-type]


def test_clipped_normal_density_by_hand() -> None:
    policy = ClippedNormal(torch.zeros(1, 2), torch.full((1, 2), 0.5))
    by_hand = 2 * (-math.log(0.5) - 0.5 * math.log(2 * math.pi)) - 0.5 * (1.0 / 0.25)
    assert float(policy.log_prob(torch.tensor([[1.0, 0.0]]))) == pytest.approx(by_hand)


def test_actor_loss_by_hand() -> None:
    returns, entropy = torch.tensor([[2.0], [4.0]]), torch.tensor([[1.0], [3.0]])
    loss, _ = actor_loss(returns, entropy, torch.tensor(2.0), discount=0.5, weight=0.1)
    assert float(loss) == pytest.approx(-0.5 * ((1 + 0.1) + 0.5 * (2 + 0.3)))


def test_critic_loss_by_hand_and_its_target_is_constant() -> None:
    value = torch.tensor([[1.0], [2.0]], requires_grad=True)
    returns = torch.tensor([[3.0], [2.5]], requires_grad=True)
    loss, _ = critic_loss(value, returns, discount=0.5)
    assert float(loss.detach()) == pytest.approx(0.5 * (0.5 * 4 + 0.5 * 0.5 * 0.25))
    loss.backward()
    assert returns.grad is None


def test_cloning_is_the_negative_log_likelihood_and_fades() -> None:
    policy, action = ClippedNormal(torch.zeros(3, 2), torch.ones(3, 2)), 0.9 * torch.rand(3, 2)  # inside the bounds
    by_hand = (0.5 * action.square() + 0.5 * math.log(2 * math.pi)).sum(-1).mean()
    assert float(cloning_loss(policy, action)[0]) == pytest.approx(float(by_hand))
    assert cloning_weight(2.0, 100.0, 0.0, 0) == 2.0
    assert cloning_weight(2.0, 100.0, 0.0, 100) == pytest.approx(2.0 / math.e)
    assert cloning_weight(2.0, 100.0, 0.25, 10_000) == 0.5
    assert cloning_weight(2.0, 0.0, 0.0, 10_000) == 2.0


def test_slow_critic_follows_by_its_share() -> None:
    critic, feat = Critic(3, 4, 1, "elu", "none", slow=0.25), torch.randn(5, 3)
    torch.testing.assert_close(critic(feat), critic.target(feat))
    with torch.no_grad():
        critic.net.head.bias.add_(1.0)
    before = critic.target(feat)
    critic.follow()
    torch.testing.assert_close(critic.target(feat), before + 0.25)
    alone = Critic(3, 4, 1, "elu", "none", slow=0.0)
    alone.follow()
    torch.testing.assert_close(alone(feat), alone.target(feat))


def test_an_actor_climbs_a_known_reward() -> None:
    """Reward −(a − 0.4)²: through the reparameterised sample the mean must find 0.4 and the noise must shrink."""
    actor, feat = make_actor("clipped_normal", 0.6), torch.zeros(256, 5)
    optimizer = torch.optim.Adam(actor.parameters(), lr=2e-2)
    for _ in range(150):
        action, entropy = actor(feat).sample(torch.randn(256, 2))
        returns = -(action - 0.4).square().sum(-1)[None]
        loss, _ = actor_loss(returns, entropy[None], torch.ones(()), discount=0.99, weight=0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy = actor(feat[:1])
    torch.testing.assert_close(policy.mode(), torch.full((1, 2), 0.4), atol=0.05, rtol=0)
    assert float(policy.std.max()) < 0.2
