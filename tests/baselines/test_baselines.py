"""What the baselines see, who learns from what, and where the reward comes from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vmil.algorithms import make_learner
from vmil.baselines.bc import BC
from vmil.baselines.dac import DAC
from vmil.baselines.drq import DrQ
from vmil.baselines.networks import Encoder
from vmil.baselines.policy import StackPolicy
from vmil.baselines.sqil import SQIL
from vmil.baselines.transitions import Observation, Transitions, transitions
from vmil.config.load import load_config
from vmil.config.schema_baselines import PixelsConfig
from vmil.data.transition import Batch
from vmil.discriminator.reward import reward_from_logit
from vmil.learner.module import ImitationModule

B, EXPERTS, A, SIZE, STACK = 6, 3, 2, 20, 3
SMALL = ("env=counting", "compute=debug", f"env.image_size={SIZE}", "training.batch_size=6")
ALGOS = ["sqil_drq", "dac_drq", "bc"]


def make_batch(length: int = STACK + 1, experts: int = EXPERTS, proprio: int = 0, reward: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(7)
    return Batch(
        image=torch.randint(0, 256, (length, B, SIZE, SIZE, 3), dtype=torch.uint8, generator=generator),
        proprio=torch.randn(length, B, proprio, generator=generator) if proprio else None,
        action=torch.rand(length, B, A, generator=generator) * 2 - 1,
        is_first=torch.zeros(length, B, dtype=torch.bool),
        num_experts=experts,
        reward=torch.rand(length, B, generator=generator) if reward else None,
        terminated=torch.zeros(length, B, dtype=torch.bool),
    )


def batch_for(learner: ImitationModule, **kwargs: int) -> Batch:
    return make_batch(learner.config.training.batch_length, B if isinstance(learner, BC) else EXPERTS, **kwargs)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImitationModule]:
    """A learner that trains without a Trainer."""

    def build(algo: str, *overrides: str, proprio: int = 0, seed: int = 0) -> ImitationModule:
        torch.manual_seed(seed)
        learner = make_learner(load_config([f"algo={algo}", *SMALL, *overrides]), A, proprio)
        optimizers = learner.configure_optimizers()
        monkeypatch.setattr(type(learner), "optimizers", lambda self: optimizers)
        monkeypatch.setattr(type(learner), "manual_backward", lambda self, loss: loss.backward())
        return learner

    return build


def snapshot(module: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in module.parameters()]


def changed(module: nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(snapshot(module), before, strict=True))


def moved(learner: ImitationModule, action: Callable[[], object]) -> set[str]:
    """Which of the learner's parts an action changes."""
    parts = {name: part for name, part in learner.named_children() if snapshot(part)}
    if isinstance(learner, DrQ):
        parts |= {"encoder": learner.critic.encoder}
    before = {name: snapshot(part) for name, part in parts.items()}
    action()
    return {name for name, part in parts.items() if changed(part, before[name])}


# ---- what is seen


def test_a_slice_is_one_transition_of_two_stacks() -> None:
    experts = 2  # not half of the rows, or the wrong half would have the right shape
    batch = make_batch(experts=experts, proprio=4, reward=True)
    batch.terminated[-2, [1, 4]] = True
    step = transitions(batch)
    for k in range(STACK):
        assert torch.equal(step.observation.image[..., 3 * k : 3 * k + 3], batch.image[k])
        assert torch.equal(step.next_observation.image[..., 3 * k : 3 * k + 3], batch.image[k + 1])
    assert torch.equal(step.action, batch.action[STACK - 1])
    assert torch.equal(step.reward, batch.reward[STACK - 1])
    assert torch.equal(step.observation.proprio, batch.proprio[STACK - 1])
    assert torch.equal(step.next_observation.proprio, batch.proprio[STACK])
    assert step.terminated.tolist() == [False, True, False, False, True, False]
    agents = step.agents()
    assert (len(step), len(agents), agents.num_experts) == (B, B - experts, 0)
    for kept, whole in (
        *zip(agents.observation, step.observation, strict=True),
        *zip(agents.next_observation, step.next_observation, strict=True),
        (agents.action, step.action),
        (agents.terminated, step.terminated),
        (agents.reward, step.reward),
    ):
        assert torch.equal(kept, whole[experts:])


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 2e-2)])
def test_the_encoder_sees_bytes_as_numbers_from_0_to_1(bf16: bool, tolerance: float) -> None:
    torch.manual_seed(0)
    encoder = Encoder(PixelsConfig(filters=4), image_size=16, bf16=bf16)
    image = torch.randint(0, 256, (5, 16, 16, 9), dtype=torch.uint8)
    plain = encoder.layers((image / 255).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(encoder(image), plain, rtol=0, atol=tolerance * float(plain.detach().abs().max()))


def test_views_of_a_stack_differ_and_keep_their_order() -> None:
    observation = transitions(make_batch(proprio=1)).observation
    views = observation.views(2, 4)
    assert not torch.equal(views.image[:B], views.image[B:])
    assert torch.equal(views.proprio[:B], views.proprio[B:])
    assert torch.equal(observation.views(2, 0).image, torch.cat([observation.image] * 2))


def test_acting_sees_the_stacks_that_training_sees(make: Callable[..., ImitationModule]) -> None:
    """Two environments, of which the second begins anew at the fourth step."""
    policy = make("sqil_drq").evaluation_policy()
    assert isinstance(policy, StackPolicy)
    images = torch.randint(0, 256, (6, 2, SIZE, SIZE, 3), dtype=torch.uint8)
    begun = [0, 0]
    for t in range(6):
        first = torch.tensor([t == 0, t in (0, 3)])
        begun = [t if is_first else at for at, is_first in zip(begun, first.tolist(), strict=True)]
        action = policy(images[t], None, first)
        assert action.shape == (2, A)
        assert (action.abs() <= 1).all()
        for env in range(2):
            frames = [images[max(begun[env], t - back), env] for back in (2, 1, 0)]
            assert torch.equal(policy.seen[env], torch.cat(frames, -1))


def test_exploring_is_random_and_evaluating_is_not(make: Callable[..., ImitationModule]) -> None:
    learner, image = make("dac_drq"), torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8)

    def act(policy: StackPolicy) -> Tensor:
        return policy(image, None, torch.ones(1, dtype=torch.bool))

    assert torch.equal(act(learner.evaluation_policy()), act(learner.evaluation_policy()))
    assert not torch.equal(act(learner.exploration_policy()), act(learner.exploration_policy()))


# ---- who learns


@pytest.mark.parametrize("algo", ALGOS)
def test_every_preset_takes_a_step_and_its_optimisers_hold_every_weight_once(
    make: Callable[..., ImitationModule], algo: str
) -> None:
    learner = make(algo, proprio=4)
    optimizers = learner.configure_optimizers()
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in learner.parameters() if p.requires_grad}
    everything = moved(learner, lambda: learner.training_step(batch_for(learner, proprio=4), 0))
    assert everything >= {name for name, part in learner.named_children() if snapshot(part)}
    assert all(torch.isfinite(weight).all() for weight in learner.parameters())
    assert learner.updates == 1


@pytest.mark.parametrize(
    ("algo", "names"), zip(ALGOS, ["critic actor temperature", "critic actor temperature disc", "actor"], strict=True)
)
def test_optimisers_stay_in_the_order_in_which_checkpoints_hold_them(
    make: Callable[..., ImitationModule], algo: str, names: str
) -> None:
    assert list(make(algo).make_optimizers()) == names.split()


@pytest.mark.parametrize("algo", ALGOS)
def test_same_seed_same_weights(make: Callable[..., ImitationModule], algo: str) -> None:
    results = []
    for _ in range(2):
        learner = make(algo, seed=3)
        for _ in range(2):
            learner.training_step(batch_for(learner), 0)
        results.append(snapshot(learner))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_only_the_critic_teaches_the_encoder(make: Callable[..., ImitationModule]) -> None:
    learner = make("sqil_drq")
    assert isinstance(learner, DrQ)
    step = transitions(make_batch())
    seen, target = step.observation.views(2, 4), torch.ones(B)
    assert moved(learner, lambda: learner.fit_critic(seen, step, target)) == {"critic", "encoder"}
    assert moved(learner, lambda: learner.fit_actor(step.observation)) == {"actor", "temperature"}
    assert moved(learner, lambda: learner.target(step, torch.zeros(B))) == set()


def test_actor_and_target_follow_every_second_update(make: Callable[..., ImitationModule]) -> None:
    learner = make("sqil_drq")
    who = [moved(learner, lambda: learner.training_step(make_batch(), 0)) for _ in range(4)]
    assert who == 2 * [{"critic", "encoder", "actor", "temperature", "slow_critic"}, {"critic", "encoder"}]


def test_the_target_follows_by_its_share(make: Callable[..., ImitationModule]) -> None:
    learner = make("sqil_drq", "drq.tau=0.25")
    assert isinstance(learner, DrQ)
    before = snapshot(learner.slow_critic)
    assert not changed(learner.critic, before)  # they begin equal
    learner.training_step(make_batch(), 0)
    for old, new, critic in zip(before, snapshot(learner.slow_critic), snapshot(learner.critic), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * critic)


@pytest.mark.parametrize("option", ["drq.views=1", "drq.target_views=3", "pixels.shift=0", "compute.precision=bf16"])
def test_every_option_takes_a_step(make: Callable[..., ImitationModule], option: str) -> None:
    learner = make("sqil_drq", option)
    assert moved(learner, lambda: learner.training_step(make_batch(), 0)) >= {"critic", "actor"}


def test_one_view_of_unshifted_pictures_is_as_good_as_many(make: Callable[..., ImitationModule]) -> None:
    """With nothing to average over, K and M change neither target nor loss."""
    losses = []
    for views in (1, 3):
        learner = make("sqil_drq", "pixels.shift=0", f"drq.views={views}", f"drq.target_views={views}")
        with torch.no_grad():
            for weight in learner.actor.net[-1].parameters():
                weight.zero_()
            learner.actor.net[-1].bias[A:] = -20.0  # no noise, and an entropy that is alike for all
        learner.temperature.log.data.fill_(-50.0)
        learner.fit_critic(
            transitions(make_batch()).observation.views(views, 0),
            transitions(make_batch()),
            learner.target(transitions(make_batch()), torch.ones(B)),
        )
        losses.append(learner.drain_metrics()["critic/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


# ---- where the reward comes from


def told(learner: DrQ, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the critic is told in one update."""
    heard: list[Tensor] = []
    improve = type(learner).improve

    def listen(self: DrQ, step: object, reward: Tensor) -> None:
        heard.append(reward)
        improve(self, step, reward)

    monkeypatch.setattr(type(learner), "improve", listen)
    learner.training_step(batch, 0)
    monkeypatch.setattr(type(learner), "improve", improve)
    return heard[0]


@pytest.mark.parametrize("algo", ["sqil_drq", "dac_drq"])
def test_the_environments_reward_changes_nothing_in_imitation(make: Callable[..., ImitationModule], algo: str) -> None:
    results = []
    for reward in (False, True):
        learner = make(algo)
        torch.manual_seed(1)
        learner.training_step(make_batch(reward=reward), 0)
        results.append(snapshot(learner))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("algo", ["sqil_drq", "dac_drq"])
def test_the_true_reward_takes_its_place_only_when_asked(
    make: Callable[..., ImitationModule], monkeypatch: pytest.MonkeyPatch, algo: str
) -> None:
    learner = make(algo, "debug.use_ground_truth_reward=true")
    batch = make_batch(experts=0, reward=True)
    assert torch.equal(told(learner, batch, monkeypatch), batch.reward[STACK - 1])
    with pytest.raises(RuntimeError, match="without the environment's reward"):
        learner.training_step(make_batch(experts=0), 0)


def test_sqil_rewards_the_expert_s_rows_by_one(
    make: Callable[..., ImitationModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make("sqil_drq")
    assert isinstance(learner, SQIL)
    assert told(learner, make_batch(reward=True), monkeypatch).tolist() == [1, 1, 1, 0, 0, 0]
    metrics = learner.drain_metrics()
    assert metrics["reward/mean"] == 0.5
    assert learner.reward_histogram().tolist() == [1, 1, 1, 0, 0, 0]


def test_a_time_limit_is_bootstrapped_through_and_an_end_is_not(make: Callable[..., ImitationModule]) -> None:
    learner, batch = make("sqil_drq"), make_batch()
    assert isinstance(learner, DrQ)
    batch.terminated[-2, 2] = True
    with torch.no_grad():
        for value in learner.slow_critic.values:
            value[-1].bias.fill_(10.0)
    target = learner.target(transitions(batch), torch.zeros(B))
    assert target[2] == 0.0
    assert (target[[0, 1, 3, 4, 5]] > 5.0).all()


def test_drq_finds_the_best_action_of_what_it_sees(make: Callable[..., ImitationModule]) -> None:
    """Tasks of one step: dark pictures want −½, bright ones ½; the data are random actions and what they earned."""
    learner = make("sqil_drq", "pixels.units=64", "drq.lr=0.003", "drq.init_temperature=0.01")
    assert isinstance(learner, DrQ)
    bright = torch.arange(64) % 2
    pictures = (40 + 160 * bright).to(torch.uint8)[:, None, None, None].expand(-1, SIZE, SIZE, 3 * STACK).contiguous()
    seen, best = Observation(pictures, None), (bright - 0.5)[:, None]
    for _ in range(300):
        action = torch.rand(64, A) * 2 - 1
        step = Transitions(seen, action, seen, torch.ones(64, dtype=torch.bool), None, 0)
        learner.improve(step, -(action - best).square().sum(-1))
        learner.count_update()
    with torch.no_grad():
        chosen = learner.actor(learner.critic.encoder(pictures[:2]), None).mode()
    assert (chosen - best[:2]).abs().max() < 0.25, chosen  # an untrained one is 0.5 away


# ---- DAC


def test_the_discriminator_learns_alone_and_its_answer_is_the_agents_reward(
    make: Callable[..., ImitationModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, batch = make("dac_drq", "dac.lr=0.0001"), make_batch(experts=2)
    assert isinstance(learner, DAC)
    expert, agent = learner.discriminator_inputs(transitions(batch))
    assert (len(expert), len(agent)) == (2, B - 2)
    assert moved(learner, lambda: learner.fit_discriminator(expert, agent)) == {"discriminator"}
    assert torch.equal(learner.adversarial_reward(agent), learner.discriminator(agent))  # the logit
    assert told(learner, batch, monkeypatch).shape == (B - 2,)
    assert {"disc/loss", "disc/penalty", "disc/accuracy", "critic/loss"} <= set(learner.drain_metrics())


@pytest.mark.parametrize("kind", ["probability", "log_d", "neg_log_one_minus_d", "logit"])
def test_the_reward_map_is_a_choice(make: Callable[..., ImitationModule], kind: str) -> None:
    learner = make("dac_drq", f"dac.reward={kind}")
    assert isinstance(learner, DAC)
    _, agent = learner.discriminator_inputs(transitions(make_batch()))
    torch.testing.assert_close(learner.adversarial_reward(agent), reward_from_logit(kind, learner.discriminator(agent)))


def test_the_discriminator_comes_to_tell_them_apart(make: Callable[..., ImitationModule]) -> None:
    learner = make("dac_drq", "dac.penalty_scale=0", "dac.lr=0.01")
    assert isinstance(learner, DAC)
    expert, agent = torch.randn(2, 32, learner.critic.features + A).unbind(0)
    expert[:, -1], agent[:, -1] = 1.0, -1.0  # they differ in one action
    for _ in range(100):
        learner.fit_discriminator(expert, agent)
    assert learner.adversarial_reward(agent).max() < 0 < learner.discriminator(expert).min()


# ---- behaviour cloning


def test_cloning_is_the_squared_error_of_the_mode(make: Callable[..., ImitationModule]) -> None:
    learner = make("bc", "pixels.shift=0")
    assert isinstance(learner, BC)
    batch = make_batch(STACK, experts=B)
    stack = torch.cat(list(batch.image), -1)
    by_hand = (learner.actor(learner.encoder(stack), None).mode() - batch.action[-1]).square().sum() / B
    learner.training_step(batch, 0)
    assert learner.drain_metrics()["actor/loss"] == pytest.approx(by_hand.item(), rel=1e-5)


def test_cloning_learns_a_handful_by_heart(make: Callable[..., ImitationModule]) -> None:
    learner = make("bc", "pixels.shift=0", "pixels.units=64", "bc.lr=0.003")
    batch = make_batch(STACK, experts=B)
    for _ in range(150):
        learner.training_step(batch, 0)
    learner.drain_metrics()
    learner.training_step(batch, 0)
    assert learner.drain_metrics()["actor/cloning_error"] < 0.1
