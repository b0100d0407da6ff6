"""What DrQ and DAC hand to their losses: which rows, which network's values, which noise, how many shifted views."""

from __future__ import annotations

import math

import pytest
import torch
from test_baselines import SIZE, STACK, A, B, make_batch
from test_recorded_baselines import make
from torch import Tensor, nn

from vmil.baselines.augment import random_shift
from vmil.baselines.dac import DAC
from vmil.baselines.drq import DrQ
from vmil.baselines.networks import Actor, Critic
from vmil.baselines.transitions import transitions
from vmil.config.options import RewardMap
from vmil.config.schema_baselines import PixelsConfig
from vmil.data.transition import Batch
from vmil.discriminator.reward import reward_from_logit

P = 4
EXPERTS = 2  # of B = 6: if half the rows were the expert's, swapping the halves would change no shape


def make_drq(*overrides: str) -> DrQ:
    """DrQ whose slow critic is unlike its critic, as after some updates."""
    learner = make("algo=sqil_drq", "drq.init_temperature=0.5", "drq.discount=0.9", *overrides, proprio=P)
    assert isinstance(learner, DrQ)
    with torch.no_grad():
        for weight in learner.slow_critic.parameters():
            weight.normal_(0.0, 0.1)
    return learner


def make_dac(*overrides: str) -> DAC:
    learner = make("algo=dac_drq", *overrides, proprio=P)
    assert isinstance(learner, DAC)
    return learner


@pytest.fixture
def shifts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, int]]:
    """Pictures and pad of every call of `random_shift`."""
    calls: list[tuple[Tensor, int]] = []

    def spy(image: Tensor, pad: int) -> Tensor:
        calls.append((image, pad))
        return random_shift(image, pad)

    monkeypatch.setattr("vmil.baselines.transitions.random_shift", spy)
    return calls


# ---- DrQ


@torch.no_grad()
def test_the_target_asks_the_slow_critic_about_sampled_actions() -> None:
    learner, views = make_drq("pixels.shift=0", "drq.target_views=2"), 2
    batch = make_batch(proprio=P)
    batch.terminated[-2, 1] = True
    step, reward = transitions(batch), torch.arange(B) / B
    image, proprio = step.next_observation.image.repeat(views, 1, 1, 1), step.next_observation.proprio.repeat(views, 1)

    torch.manual_seed(5)
    action, entropy = learner.actor(learner.critic.encoder(image), proprio).sample(torch.randn(views * B, A))
    slow = learner.slow_critic
    value = slow(slow.feat(slow.encoder(image), proprio), action).min(0).values
    expected = reward + 0.9 * (value + 0.5 * entropy).unflatten(0, (views, B)).mean(0)
    expected[1] = reward[1]

    torch.manual_seed(5)
    torch.testing.assert_close(learner.target(step, reward), expected)


def test_the_actor_climbs_the_critic_and_its_entropy() -> None:
    learner = make_drq()
    seen, critic = transitions(make_batch(proprio=P)).observation, learner.critic
    with torch.no_grad():
        torch.manual_seed(5)
        maps = critic.encoder(seen.image)
        action, entropy = learner.actor(maps, seen.proprio).sample(torch.randn(B, A))
        value = critic(critic.feat(maps, seen.proprio), action).min(0).values

    torch.manual_seed(5)
    learner.fit_actor(seen)
    metrics = learner.drain_metrics()
    assert metrics["actor/loss"] == pytest.approx(-(value + 0.5 * entropy).mean().item(), rel=1e-4)
    assert metrics["temperature/loss"] == pytest.approx(0.5 * (entropy.mean().item() + A), rel=1e-4)


def test_the_entropy_aimed_at_is_minus_one_nat_for_each_action() -> None:
    assert make_drq().target_entropy == -A


@pytest.mark.parametrize(("raw", "log_std"), [(0.0, -4.0), (20.0, 2.0), (-20.0, -10.0)])
def test_the_policy_s_scale_fills_its_bounds_from_their_middle(raw: float, log_std: float) -> None:
    actor = Actor(5, A, 0, PixelsConfig(feature=4, units=8), (-10.0, 2.0))
    last = actor.net[-1]
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, raw)
    torch.testing.assert_close(actor(torch.randn(3, 5), None).std, torch.full((3, A), math.exp(log_std)))


def test_the_two_values_differ() -> None:
    torch.manual_seed(0)
    critic = Critic(PixelsConfig(filters=4, feature=4, units=8), SIZE, A, 0, bf16=False)
    first, second = critic(torch.randn(B, critic.features), torch.randn(B, A))
    assert not torch.isclose(first, second).any()


def test_every_view_of_either_observation_is_shifted(shifts: list[tuple[Tensor, int]]) -> None:
    learner = make_drq("drq.views=3", "drq.target_views=2", "pixels.shift=2")
    step = transitions(make_batch(proprio=P))
    learner.improve(step, torch.zeros(B))  # the first update, in which the actor learns, too: from one of the three
    assert [pad for _, pad in shifts] == 5 * [2]
    expected = 3 * [step.observation.image] + 2 * [step.next_observation.image]
    assert all(torch.equal(image, whole) for (image, _), whole in zip(shifts, expected, strict=True))


# ---- DAC


@torch.no_grad()
def judged_rows(learner: DAC, batch: Batch) -> Tensor:
    """What D should read of each transition where nothing is shifted, (B, F + P + A)."""
    maps = learner.critic.encoder(torch.cat(list(batch.image[:STACK]), -1))
    return torch.cat([learner.critic.feat(maps, batch.proprio[STACK - 1]), batch.action[STACK - 1]], -1)


def test_the_discriminator_is_told_who_is_the_expert(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, batch = make_dac("pixels.shift=0"), make_batch(experts=EXPERTS, proprio=P)
    rows, told = judged_rows(learner, batch), []

    def spy(discriminator: nn.Module, expert: Tensor, policy: Tensor, **options: object) -> tuple[Tensor, dict]:
        told.append((expert, policy))
        return discriminator(expert).mean(), {}

    monkeypatch.setattr("vmil.baselines.dac.discriminator_loss", spy)
    learner.learn(batch)
    [(expert, agent)] = told
    torch.testing.assert_close(expert, rows[:EXPERTS])
    torch.testing.assert_close(agent, rows[EXPERTS:])


@pytest.mark.parametrize("kind", ["logit", "log_d"])
def test_the_agent_learns_from_the_verdict_on_its_own_transitions(
    monkeypatch: pytest.MonkeyPatch, kind: RewardMap
) -> None:
    learner = make_dac("pixels.shift=0", "dac.lr=0.01", f"dac.reward={kind}")
    batch = make_batch(experts=EXPERTS, proprio=P)
    rows, told = judged_rows(learner, batch), []
    monkeypatch.setattr(learner, "improve", lambda step, reward: told.append((step, reward)))
    learner.learn(batch)
    [(step, reward)] = told
    verdict = learner.discriminator(rows[EXPERTS:])  # by D as it is after its step
    torch.testing.assert_close(reward, reward_from_logit(kind, verdict.detach()))
    assert torch.equal(step.action, batch.action[STACK - 1, EXPERTS:])


def test_the_discriminator_sees_one_shifted_view(shifts: list[tuple[Tensor, int]]) -> None:
    learner, step = make_dac("pixels.shift=4"), transitions(make_batch(experts=EXPERTS, proprio=P))
    first, again = (torch.cat(learner.discriminator_inputs(step)) for _ in range(2))
    assert [pad for _, pad in shifts] == [4, 4]
    assert all(torch.equal(image, step.observation.image) for image, _ in shifts)
    assert not torch.isclose(first, again).all()
