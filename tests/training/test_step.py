"""What each option does to a training step: losses by hand from a fixed dream, the discriminator's rows, the starts.

`test_vmil.py` asks who moves; here each number is recomputed, so that an option that does nothing is noticed.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from vmil.config.load import load_config
from vmil.config.schema import Config
from vmil.data.pace import Pace
from vmil.data.transition import Batch
from vmil.discriminator.network import Triples
from vmil.imagination import Dream
from vmil.learner.stepping import Part
from vmil.nets.mlp import frozen
from vmil.training import vmil
from vmil.training.vmil import VMIL
from vmil.world_model.rssm import State

T, B, EXPERTS, A, H, N = 6, 4, 2, 3, 4, 7
GAMMA, LAM, ENTROPY, REWARD_SCALE = 0.9, 0.8, 0.01, 0.5
# Everything that is tested here is off, so that each test turns on one thing.
PLAIN = (
    *("env=counting", "compute=debug", f"training.batch_length={T}", "compute.precision=fp32", "algo=vmil_plus"),
    *(f"behaviour.horizon={H}", f"behaviour.discount={GAMMA}", f"behaviour.lam={LAM}", f"behaviour.entropy={ENTROPY}"),
    *(f"behaviour.reward_scale={REWARD_SCALE}", "behaviour.bootstrap=value", "behaviour.normalise=none"),
    *("behaviour.slow_critic=0.0", "behaviour.cloning=0.0", "behaviour.actor_average=0.0", "behaviour.dream_starts=0"),
    *("behaviour.policy=clipped_normal", "behaviour.min_std=0.1", "behaviour.init_std=0.2", "behaviour.max_std=0.4"),
    *("discriminator.updates=1", "discriminator.replay_negatives=false", "discriminator.dream_negatives=true"),
    "discriminator.next_state=true",
    *("discriminator.action_scale=1.0", "discriminator.prior_next_state=false", "discriminator.noise=none"),
    *("behaviour.exploration_frames=0", "behaviour.clip=1e9"),  # gradients are compared as they are
)


@functools.cache
def plain() -> Config:
    """Loaded once: that takes longer than everything a test does with it."""
    return load_config(list(PLAIN))


def configured(options: Mapping[str, object]) -> Config:
    """The plain configuration but for these keys, `section.name`."""
    config = copy.deepcopy(plain())
    for key, value in options.items():
        section, name = key.split(".")
        assert hasattr(getattr(config, section), name)
        setattr(getattr(config, section), name, value)
    return config


class Alone(VMIL):
    """Trains without a Trainer and keeps the loss of every optimiser's step."""

    def __init__(self, options: Mapping[str, object]) -> None:
        torch.manual_seed(0)
        super().__init__(configured(options), A, 0)
        self.clock = Pace(self.config)
        self.own_optimizers = self.configure_optimizers()
        self.steps: list[tuple[str, Tensor]] = []
        # Untrained heads answer 0 to everything: no option could make a difference.
        heads = [self.actor.net.head, self.critic.net.head]
        for head in heads if self.critic.target_net is None else [*heads, self.critic.target_net.head]:
            nn.init.normal_(head.weight, std=0.3)

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self.own_optimizers

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()

    def step(self, name: str, loss: Tensor, parts: Iterable[Part]) -> None:
        self.steps.append((name, loss.detach().clone()))
        super().step(name, loss, parts)


class Dreamt(NamedTuple):
    """What `fit_behaviour` takes, every number its own leaf."""

    dream: Dream
    reward: Tensor  # (H, N)
    expert: Triples


def make_dreamt(learner: VMIL, seed: int = 1) -> Dreamt:
    draw, feat = torch.Generator().manual_seed(seed), learner.world_model.rssm.feat_size

    def normal(*shape: int, grad: bool = False) -> Tensor:
        return torch.randn(*shape, generator=draw).requires_grad_(grad)

    dream = Dream(normal(H + 1, N, feat, grad=True), normal(H, N, A), normal(H, N, grad=True), normal(H, N, A).exp())
    expert = Triples(normal(T - 1, EXPERTS, feat), normal(T - 1, EXPERTS, A).tanh(), normal(T - 1, EXPERTS, feat))
    return Dreamt(dream, normal(H, N, grad=True), expert)


def make_batch(experts: int = EXPERTS) -> Batch:
    draw, is_first = torch.Generator().manual_seed(7), torch.zeros(T, B, dtype=torch.bool)
    is_first[0, 0] = True
    image = torch.randint(0, 256, (T, B, 64, 64, 3), dtype=torch.uint8, generator=draw)
    action = torch.rand(T, B, A, generator=draw) * 2 - 1
    return Batch(image, None, action, is_first, torch.zeros(T, B, dtype=torch.bool), experts)


def make_posterior(learner: VMIL) -> State:
    draw, state = torch.Generator().manual_seed(3), learner.world_model.rssm.initial(B, torch.zeros(()))
    return State(*(torch.randn(T, *part.shape, generator=draw) for part in state))


def spy_on_discriminator_loss(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor]]:
    """The expert's and the policy's inputs of every call from now on."""
    calls: list[tuple[Tensor, Tensor]] = []
    original = vmil.discriminator_loss

    def spy(discriminator: Any, expert: Tensor, policy: Tensor, **options: Any) -> Any:
        calls.append((expert.clone(), policy.clone()))
        return original(discriminator, expert, policy, **options)

    monkeypatch.setattr(vmil, "discriminator_loss", spy)
    return calls


# ---- the behaviour's loss, by hand -----------------------------------------------------------------------------------


def discounted_sum(reward: Tensor, start: int, stop: int) -> Tensor:
    """Σ γ^(k − start) · scaled r_k, k = start … stop − 1: (N,)."""
    return sum((GAMMA ** (k - start) * REWARD_SCALE * reward[k] for k in range(start, stop)), torch.zeros(N))


def mixed_returns(reward: Tensor, value: Tensor) -> Tensor:
    """The λ-return as a mixture of n-step returns (Sutton & Barto 2018, eq. 12.3), (H, N)."""
    returns = []
    for t in range(H):
        n_step = [discounted_sum(reward, t, t + n) + GAMMA**n * value[t + n] for n in range(1, H - t + 1)]
        mixed = sum(((1 - LAM) * LAM**i * one for i, one in enumerate(n_step[:-1])), torch.zeros(N))
        returns.append(mixed + LAM ** (len(n_step) - 1) * n_step[-1])
    return torch.stack(returns)


def value_by(net: nn.Module, dreamt: Dreamt) -> Tensor:
    """V(z_0) … V(z_H) as the actor sees them, (H+1, N): with a gradient to z, none to the critic's weights."""
    with frozen(net):
        return net(dreamt.dream.feat)[..., 0]


def loss_by_hand(learner: VMIL, dreamt: Dreamt, returns: Tensor, scale: float, cloning: float) -> Tensor:
    dream, expert = dreamt.dream, dreamt.expert
    weights = torch.tensor([[GAMMA**t] for t in range(H)])
    act = -(weights * (returns / scale + ENTROPY * dream.entropy)).mean()
    criticise = (weights * 0.5 * (learner.critic.net(dream.feat[:-1].detach())[..., 0] - returns.detach()) ** 2).mean()
    policy = learner.actor(expert.feat)
    clone = -Normal(policy.mode(), policy.std).log_prob(expert.action).sum(-1).mean()
    return act + criticise + cloning * clone


def check_behaviour(
    learner: Alone, dreamt: Dreamt, returns: Tensor, *, scale: float = 1.0, cloning: float = 0.0
) -> None:
    """One `fit_behaviour` has the loss by hand, and its gradient at rewards, states, entropies, actor and critic."""
    leaves = [dreamt.reward, dreamt.dream.feat, dreamt.dream.entropy]
    leaves += [*learner.actor.parameters(), *learner.critic.net.parameters()]
    loss = loss_by_hand(learner, dreamt, returns, scale, cloning)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    learner.fit_behaviour(*dreamt)
    name, seen = learner.steps[-1]
    assert name == "actor"
    torch.testing.assert_close(seen, loss.detach())
    for leaf, gradient in zip(leaves, gradients, strict=True):
        torch.testing.assert_close(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad, gradient)


@pytest.mark.parametrize("bootstrap", ["value", "none"])
def test_returns_end_in_the_critics_value_or_with_the_dream(bootstrap: str) -> None:
    learner = Alone({"behaviour.bootstrap": bootstrap})
    dreamt = make_dreamt(learner)
    by_value = mixed_returns(dreamt.reward, value_by(learner.critic.net, dreamt))
    plain_sum = torch.stack([discounted_sum(dreamt.reward, t, H) for t in range(H)])
    assert not torch.allclose(by_value, plain_sum, rtol=0.1)
    check_behaviour(learner, dreamt, by_value if bootstrap == "value" else plain_sum)


@pytest.mark.parametrize(
    ("bootstrap", "normalise", "valued"),
    [("value", "none", [True]), ("none", "advantages", [False]), ("none", "returns", []), ("none", "none", [])],
)
def test_a_dream_is_valued_only_where_that_is_read(
    bootstrap: str, normalise: str, valued: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with its history only where the actor's gradient comes through the value."""
    learner = Alone({"behaviour.bootstrap": bootstrap, "behaviour.normalise": normalise})
    seen: list[bool] = []
    target = learner.critic.target

    def spy(feat: Tensor) -> Tensor:
        value = target(feat)
        seen.append(value.requires_grad)
        return value

    monkeypatch.setattr(learner.critic, "target", spy)
    learner.fit_behaviour(*make_dreamt(learner))
    assert seen == valued


def test_a_slow_critic_is_what_returns_end_in_and_it_follows() -> None:
    learner = Alone({"behaviour.slow_critic": 0.25})
    dreamt, slow, fast = make_dreamt(learner), learner.critic.target_net, learner.critic.net
    assert slow is not None
    by_slow, by_fast = (mixed_returns(dreamt.reward, value_by(net, dreamt)) for net in (slow, fast))
    assert not torch.allclose(by_slow, by_fast, rtol=0.1)
    before = [weight.clone() for weight in slow.parameters()]
    check_behaviour(learner, dreamt, by_slow)
    for old, now, led in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(now, old + 0.25 * (led.detach() - old))


@pytest.mark.parametrize("kind", ["none", "returns", "advantages"])
def test_returns_are_divided_by_the_running_range_asked_for(kind: str) -> None:
    learner = Alone({"behaviour.normalise": kind})
    running = 1.0
    for update, seed in enumerate((1, 2)):
        dreamt = make_dreamt(learner, seed)
        value = value_by(learner.critic.net, dreamt)
        returns = mixed_returns(dreamt.reward, value)
        if kind != "none":
            spread = returns if kind == "returns" else returns - value[:-1]
            low, high = spread.detach().flatten().quantile(torch.tensor([0.05, 0.95])).tolist()
            running = 0.99 * running + 0.01 * (high - low) if update else high - low
            assert abs(running - 1.0) > 0.1
        check_behaviour(learner, dreamt, returns, scale=running)


@pytest.mark.parametrize(
    ("decay", "floor", "updates", "weight"),
    [
        (100.0, 0.25, 0, 2.0),
        (100.0, 0.25, 100, 2.0 / math.e),
        (100.0, 0.25, 10_000, 0.5),
        (100.0, 0.0, 1000, 2.0 * math.exp(-10)),
        (0.0, 0.0, 10_000, 2.0),
    ],
)
def test_the_actor_clones_by_a_weight_that_fades_to_its_floor(
    decay: float, floor: float, updates: int, weight: float
) -> None:
    schedule = {"behaviour.cloning_decay_updates": decay, "behaviour.cloning_floor": floor}
    learner = Alone({"behaviour.cloning": 2.0, **schedule})
    learner.updates = updates
    dreamt = make_dreamt(learner)
    returns = mixed_returns(dreamt.reward, value_by(learner.critic.net, dreamt))
    check_behaviour(learner, dreamt, returns, cloning=weight)


@pytest.mark.parametrize(("anneal", "expected"), [(100, 0.1), (0, 0.19)])
def test_noise_on_d_fades_with_the_frames_over_the_span_asked_for_or_the_whole_budget(
    anneal: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"discriminator.noise": "annealed", "discriminator.noise_std": 0.2, "training.frames": 1000}
    learner = Alone(options | {"discriminator.noise_anneal_frames": anneal})
    monkeypatch.setattr(VMIL, "frames", 50)
    learner.updates = 7
    assert learner.schedules()["noise_std"] == pytest.approx(expected)


def test_cloning_fades_by_one_update_for_each_step() -> None:
    learner = Alone({"behaviour.cloning": 2.0, "behaviour.cloning_decay_updates": 1.0})
    for update in range(3):
        learner.training_step(make_batch(), 0)
        assert learner.drain_metrics()["actor/cloning_weight"] == pytest.approx(2.0 * math.exp(-update))


# ---- the reward ------------------------------------------------------------------------------------------------------

REWARDS: dict[str, Callable[[Tensor], Tensor]] = {  # of D
    "probability": lambda expert: expert,
    "log_d": lambda expert: expert.log(),
    "neg_log_one_minus_d": lambda expert: -(1 - expert).log(),
    "logit": lambda expert: expert.log() - (1 - expert).log(),
}


@pytest.mark.parametrize("kind", list(REWARDS))
def test_the_actors_reward_is_the_map_asked_for(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = Alone({"discriminator.reward": kind, "discriminator.action_scale": 4.0})
    given: list[tuple[Tensor, Tensor]] = []

    def spy(dream: Dream, reward: Tensor, expert: Triples) -> None:
        inputs = torch.cat([dream.feat[:-1], 4.0 * dream.action, dream.feat[1:]], -1)
        given.append((reward, learner.discriminator.net(inputs)[..., 0].double().sigmoid()))

    monkeypatch.setattr(learner, "fit_behaviour", spy)
    learner.training_step(make_batch(), 0)
    (reward, expert_probability), *others = given
    assert not others
    torch.testing.assert_close(reward, REWARDS[kind](expert_probability).float(), atol=1e-5, rtol=1e-4)
    assert reward.requires_grad


# ---- the discriminator's steps and rows, and the dream's starts ------------------------------------------------------


@pytest.mark.parametrize("updates", [1, 3])
@pytest.mark.parametrize(("dreams", "replay"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("experts", [EXPERTS, B])
def test_the_discriminator_takes_the_steps_and_rows_asked_for(
    updates: int, dreams: bool, replay: bool, experts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the batch is all expert, dreams are the only negatives that there are."""
    options = {"discriminator.dream_negatives": dreams, "discriminator.replay_negatives": replay}
    learner = Alone({**options, "discriminator.updates": updates, "behaviour.dream_starts": 5})
    calls = spy_on_discriminator_loss(monkeypatch)
    learner.training_step(make_batch(experts), 0)
    dreamt, replayed = H * 5 * (dreams or experts == B), (T - 1) * (B - experts)
    rows = [(len(expert), len(policy)) for expert, policy in calls]
    assert rows == [((T - 1) * experts, dreamt + replayed * replay)] * updates
    assert [name for name, _ in learner.steps] == ["model", *["disc"] * updates, "actor"]
    taken = [{int(state["step"]) for state in optimizer.state.values()} for optimizer in learner.own_optimizers]
    assert taken == [{1}, {updates}, {1}]


@pytest.mark.parametrize(("dreams", "replay"), [(True, False), (True, True), (False, True)])
def test_replayed_negatives_are_the_agents_own_transitions(
    dreams: bool, replay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = Alone({"discriminator.dream_negatives": dreams, "discriminator.replay_negatives": replay})
    calls, batch, posterior = spy_on_discriminator_loss(monkeypatch), make_batch(), make_posterior(learner)
    dream = make_dreamt(learner).dream
    learner.fit_discriminator(learner.expert_triples(posterior, batch), dream, posterior, batch)
    dreamt = torch.cat([dream.feat[:-1], dream.action, dream.feat[1:]], -1).detach().flatten(0, 1)
    own, acted = posterior.feat[:, EXPERTS:], batch.action[:-1, EXPERTS:]
    replayed = torch.cat([own[:-1], acted, own[1:]], -1).flatten(0, 1)
    ((_, policy),) = calls
    torch.testing.assert_close(policy, torch.cat([dreamt[: len(dreamt) * dreams], replayed[: len(replayed) * replay]]))


@pytest.mark.parametrize("prior", [True, False])
def test_replayed_negatives_are_foretold_as_demonstrations_are(prior: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else D would know the agent by its filter."""
    learner = Alone({"discriminator.replay_negatives": True, "discriminator.prior_next_state": prior})
    calls, batch, posterior = spy_on_discriminator_loss(monkeypatch), make_batch(), make_posterior(learner)
    learner.fit_discriminator(learner.expert_triples(posterior, batch), make_dreamt(learner).dream, posterior, batch)
    ((expert, policy),) = calls
    feat, stoch = learner.world_model.rssm.feat_size, learner.world_model.rssm.latent.size
    for columns, rows in ((slice(0, EXPERTS), expert), (slice(EXPERTS, None), policy[H * N :])):
        filtered, seen = posterior.stoch[1:, columns].flatten(0, 1), rows[:, feat + A :]
        assert torch.equal(seen[:, :stoch], filtered) is not prior
        flat = State(*(part[:-1, columns].flatten(0, 1) for part in posterior))
        deter = learner.world_model.rssm.advance(flat, batch.action[:-1, columns].flatten(0, 1))
        assert torch.allclose(seen[:, stoch:], deter, atol=1e-5) is prior


@pytest.mark.parametrize("prior", [True, False])
def test_the_probe_compares_posteriors_and_the_dream_as_it_was_judged(prior: bool) -> None:
    learner = Alone({"discriminator.noise": "constant", "discriminator.prior_next_state": prior})
    batch, posterior, dream = make_batch(), make_posterior(learner), make_dreamt(learner).dream
    nn.init.normal_(learner.discriminator.net.head.weight, std=3.0)
    learner.fit_discriminator(learner.expert_triples(posterior, batch), dream, posterior, batch)
    learner.drain_metrics()
    learner.probe(posterior, batch, learner.reward(dream)[1])
    before = torch.cat([posterior.feat[:-1], batch.action[:-1], posterior.feat[1:]], -1)
    dreamt = torch.cat([dream.feat[:-1], dream.action, dream.feat[1:]], -1)
    expert, replayed, policy = (
        learner.discriminator.net(rows)[..., 0] for rows in (before[:, :EXPERTS], before[:, EXPERTS:], dreamt)
    )
    found, known = learner.drain_metrics(), float((expert > 0).float().mean())
    assert found["disc/replay_accuracy"] == pytest.approx((known + float((replayed <= 0).float().mean())) / 2)
    assert found["disc/dream_accuracy"] == pytest.approx((known + float((policy <= 0).float().mean())) / 2)


@pytest.mark.parametrize(("asked", "count"), [(0, T * B), (5, 5), (T * B, T * B)])
def test_dreams_start_from_as_many_different_posterior_states_as_asked(asked: int, count: int) -> None:
    learner = Alone({"behaviour.dream_starts": asked})
    posterior = make_posterior(learner)
    flat, chosen = posterior.feat.flatten(0, 1), []
    for _ in range(2):
        dream = learner.dream(posterior)
        assert dream.feat.shape[:2] == (H + 1, count)
        same = (dream.feat[0][:, None] == flat).all(-1)  # (starts, T · B)
        assert same.sum(1).tolist() == [1] * count
        assert int(same.any(0).sum()) == count  # without replacement
        chosen.append(same.any(0))
    if asked == 5:
        assert not torch.equal(*chosen)  # drawn anew each update


# ---- what the collector does -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("std", [0.0, 0.25])
def test_collected_actions_scatter_by_the_actors_scale_and_the_noises(std: float) -> None:
    learner = Alone({"behaviour.exploration_std": std})
    learner.actor.net.with_zero_head()  # mean 0, std 0.2
    image, first = torch.zeros(500, 64, 64, 3, dtype=torch.uint8), torch.ones(500, dtype=torch.bool)
    acted = learner.exploration_policy()(image, None, first)
    assert float(acted.std()) == pytest.approx(math.hypot(0.2, std), rel=0.08)  # 1500 draws: 1.8 %
    assert not learner.evaluation_policy()(image, None, first).any()


def test_exploration_is_as_correlated_and_spread_as_configured() -> None:
    options = {"behaviour.exploration_correlation": 0.7, "behaviour.exploration_spread": 0.4}
    noise = Alone(options).exploration_policy().noise
    assert (noise.correlation, noise.spread) == (0.7, 0.4)
