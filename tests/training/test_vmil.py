"""The training step: who learns from what, that it is deterministic, and that every option runs."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.data.pace import Pace
from vmil.data.transition import Batch, previous_actions
from vmil.discriminator.network import Triples
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.errors import NonFiniteError
from vmil.evaluation.rollout import SEED_OFFSET, SIDE_BY_SIDE, Rollout, evaluate
from vmil.imagination import DreamNoise, imagine
from vmil.learner.nonfinite import Attempt
from vmil.learner.stepping import Part
from vmil.nets.mlp import frozen
from vmil.training.agreement import TracedEvaluation
from vmil.training.vmil import VMIL
from vmil.world_model.model import preprocess
from vmil.world_model.rssm import State

T, B, EXPERTS, A = 6, 4, 2, 3
SMALL = ("env=counting", "compute=debug", "training.batch_length=6", "behaviour.horizon=3", "compute.precision=fp32")


def make_batch(proprio: int = 0, reward: bool = False, experts: int = EXPERTS) -> Batch:
    generator = torch.Generator().manual_seed(7)
    is_first = torch.zeros(T, B, dtype=torch.bool)
    is_first[0, 0] = True
    return Batch(
        image=torch.randint(0, 256, (T, B, 64, 64, 3), dtype=torch.uint8, generator=generator),
        proprio=torch.randn(T, B, proprio, generator=generator) if proprio else None,
        action=torch.rand(T, B, A, generator=generator) * 2 - 1,
        is_first=is_first,
        terminated=torch.zeros(T, B, dtype=torch.bool),
        num_experts=experts,
        reward=torch.rand(T, B, generator=generator) if reward else None,
    )


@pytest.fixture
def make_learner(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VMIL]:
    """A learner that trains without a Trainer."""

    def make(*overrides: str, proprio: int = 0, seed: int = 0) -> VMIL:
        torch.manual_seed(seed)
        learner = VMIL(load_config([*SMALL, *overrides]), A, proprio)
        learner.clock = Pace(learner.config)
        optimizers = learner.configure_optimizers()
        monkeypatch.setattr(VMIL, "optimizers", lambda self: optimizers)
        monkeypatch.setattr(VMIL, "manual_backward", lambda self, loss: loss.backward())
        return learner

    return make


def snapshot(module: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in module.parameters()]


def changed(module: nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(snapshot(module), before, strict=True))


def test_exactly_three_optimisers_hold_every_weight_once(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner()
    optimizers = learner.configure_optimizers()
    assert len(optimizers) == 3
    assert [len(optimizer.param_groups) for optimizer in optimizers] == [1, 1, 2]
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in learner.parameters() if p.requires_grad}


def test_firewall_between_the_three(make_learner: Callable[..., VMIL]) -> None:
    """Model's loss moves the model only, D's loss D only, the behaviour's loss actor and critic only."""
    learner, batch = make_learner("behaviour.slow_critic=0.02"), make_batch()
    parts = {name: getattr(learner, name) for name in ("world_model", "discriminator", "actor", "critic")}

    def moved(action: Callable[[], object]) -> tuple[set[str], object]:
        before = {name: snapshot(part) for name, part in parts.items()}
        result = action()
        return {name for name, part in parts.items() if changed(part, before[name])}, result

    who, posterior = moved(lambda: learner.fit_model(batch))
    assert who == {"world_model"}
    assert isinstance(posterior, State)
    dream = learner.dream(posterior)
    expert = learner.expert_triples(posterior, batch)
    who, _ = moved(lambda: learner.fit_discriminator(expert, dream, posterior, batch))
    assert who == {"discriminator"}
    who, _ = moved(lambda: learner.fit_behaviour(dream, learner.reward(dream)[0], expert))
    assert who == {"actor", "critic"}


def test_the_reward_reaches_the_actor_through_model_and_judge(make_learner: Callable[..., VMIL]) -> None:
    learner, batch = make_learner(), make_batch()
    posterior = learner.fit_model(batch)
    learner.zero_grad(set_to_none=True)
    learner.reward(learner.dream(posterior))[0].sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in learner.actor.net.head.parameters())
    silent = [learner.world_model, learner.discriminator, learner.critic]
    assert all(weight.grad is None for part in silent for weight in part.parameters())


def test_the_environments_reward_changes_nothing_in_imitation(make_learner: Callable[..., VMIL]) -> None:
    results = []
    for reward in (False, True):
        learner = make_learner()
        torch.manual_seed(1)
        learner.training_step(make_batch(reward=reward), 0)
        results.append(snapshot(learner))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_ground_truth_reward_takes_the_judges_place_only_when_asked(make_learner: Callable[..., VMIL]) -> None:
    assert make_learner().world_model.reward_head is None
    learner, batch = make_learner("debug.use_ground_truth_reward=true"), make_batch(reward=True)
    model = learner.world_model
    assert model.reward_head is not None
    assert batch.reward is not None
    torch.manual_seed(5)
    before = previous_actions(batch.action, batch.is_first)
    posterior, _ = model.observe(preprocess(batch.image), None, before, batch.is_first)
    told = model.reward_head(posterior.feat[1:])[..., 0]  # the reward of a_t is told by z_{t+1}
    by_hand = 0.5 * float((told - batch.reward[:-1]).square().mean().detach())
    torch.manual_seed(5)
    learner.training_step(batch, 0)
    assert learner.drain_metrics()["model/reward"] == pytest.approx(by_hand, rel=1e-5)
    judge = snapshot(learner.discriminator)
    dream = learner.dream(learner.fit_model(batch))
    torch.testing.assert_close(learner.reward(dream)[0], model.reward_head(dream.feat[1:])[..., 0])
    assert not changed(learner.discriminator, judge)


def test_expert_triples_are_the_demonstrations_columns(make_learner: Callable[..., VMIL]) -> None:
    learner, batch = make_learner(), make_batch()
    posterior = learner.fit_model(batch)
    triples = learner.expert_triples(posterior, batch)
    torch.testing.assert_close(triples.feat, posterior.feat[:-1, :EXPERTS])
    torch.testing.assert_close(triples.action, batch.action[:-1, :EXPERTS])
    torch.testing.assert_close(triples.next_feat, posterior.feat[1:, :EXPERTS])


def test_prior_next_states_come_from_the_model_not_the_filter(make_learner: Callable[..., VMIL]) -> None:
    learner, batch = make_learner("discriminator.prior_next_state=true"), make_batch()
    posterior = learner.fit_model(batch)
    triples = learner.expert_triples(posterior, batch)
    stoch = learner.world_model.rssm.latent.size
    # The deterministic half is the same either way: it does not depend on the image.
    torch.testing.assert_close(
        triples.next_feat[..., stoch:], learner_next_deter(learner, posterior, batch), atol=1e-5, rtol=1e-4
    )
    assert not torch.allclose(triples.next_feat[..., :stoch], posterior.stoch[1:, :EXPERTS])


def learner_next_deter(learner: VMIL, posterior: State, batch: Batch) -> Tensor:
    with torch.no_grad():
        flat = State(*(part[:-1, :EXPERTS].flatten(0, 1) for part in posterior))
        deter = learner.world_model.rssm.advance(flat, batch.action[:-1, :EXPERTS].flatten(0, 1))
        return deter.unflatten(0, (T - 1, 2))


def test_dreams_follow_policy_and_model_step_by_step(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner()
    rssm = learner.world_model.rssm
    start = rssm.initial(5, torch.zeros(()))
    noise = DreamNoise(torch.randn(3, 5, A), rssm.latent.noise(3, 5, like=torch.zeros(())))
    with frozen(learner.world_model):
        dream = imagine(rssm, learner.actor, start, 3, noise)
    state = start
    for t in range(3):
        action, entropy = learner.actor(state.feat).sample(noise.action[t])
        torch.testing.assert_close(dream.action[t], action)
        torch.testing.assert_close(dream.entropy[t], entropy)
        state = rssm.img_step(state, action, noise.latent[t])
        torch.testing.assert_close(dream.feat[t + 1], state.feat)
    assert dream.triples().feat.shape == (3, 5, rssm.feat_size)


@pytest.mark.parametrize("detach", [True, False])
def test_what_the_actor_is_shown_leads_gradients_back_only_if_it_shall(
    make_learner: Callable[..., VMIL], detach: bool
) -> None:
    learner = make_learner(f"behaviour.detach_actor_input={str(detach).lower()}")
    for weight in learner.actor.parameters():  # an untrained actor does not look at the state
        nn.init.normal_(weight, std=0.3)
    rssm = learner.world_model.rssm
    start = rssm.initial(5, torch.zeros(()))
    noise = DreamNoise(torch.randn(3, 5, A, requires_grad=True), rssm.latent.noise(3, 5, like=torch.zeros(())))
    dream = imagine(rssm, learner.actor, start, 3, noise, detach=detach)
    (by_action,) = torch.autograd.grad(dream.action[1].sum(), noise.action, retain_graph=True)
    assert bool(by_action[0].any()) is not detach  # the first action moves the second only through its state
    (by_state,) = torch.autograd.grad(dream.feat[2].sum(), noise.action)
    assert by_state[0].any()
    with patch("vmil.training.vmil.imagine", wraps=imagine) as spied:
        learner.dream(State(*(part[None] for part in start)))
    assert spied.call_args.kwargs["detach"] is detach


def test_same_seed_same_weights(make_learner: Callable[..., VMIL]) -> None:
    results = []
    for _ in range(2):
        learner = make_learner(seed=3)
        for _ in range(2):
            learner.training_step(make_batch(), 0)
        results.append(snapshot(learner))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("algo", ["vmil", "vmil_released", "vmil_plus"])
def test_every_preset_takes_a_step(make_learner: Callable[..., VMIL], algo: str) -> None:
    learner = make_learner(f"algo={algo}")
    learner.training_step(make_batch(), 0)
    assert all(torch.isfinite(weight).all() for weight in learner.parameters())


OPTIONS = {
    "world_model.latent": ["gaussian", "categorical"],
    "world_model.norm": ["none", "layer"],
    "discriminator.next_state": ["true", "false"],
    "discriminator.spectral_norm": ["true"],
    "discriminator.prior_next_state": ["true"],
    "discriminator.penalty": ["input", "weights", "none"],
    "discriminator.noise": ["none", "constant", "annealed"],
    "discriminator.reward": ["probability", "log_d", "neg_log_one_minus_d", "logit"],
    "discriminator.replay_negatives": ["true"],
    "discriminator.updates": ["2"],
    "behaviour.bootstrap": ["value", "none"],
    "behaviour.dream_starts": ["0", "5"],
    "behaviour.normalise": ["none", "returns", "advantages"],
    "behaviour.policy": ["clipped_normal", "tanh_normal"],
    "behaviour.slow_critic": ["0.0", "0.5"],
    "compute.precision": ["bf16"],
}


@pytest.mark.parametrize(
    "option", [f"{key}={value}" for key, value in itertools.chain(*([(k, v) for v in vs] for k, vs in OPTIONS.items()))]
)
def test_every_option_trains_all_that_it_should(make_learner: Callable[..., VMIL], option: str) -> None:
    learner = make_learner("algo=vmil", option)
    before = {name: snapshot(getattr(learner, name)) for name in ("world_model", "discriminator", "actor", "critic")}
    learner.training_step(make_batch(), 0)
    assert all(torch.isfinite(weight).all() for weight in learner.parameters())
    assert {name for name, old in before.items() if changed(getattr(learner, name), old)} == set(before)


def test_proprioception_is_read_and_explained(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner(proprio=5)
    learner.training_step(make_batch(proprio=5), 0)
    assert "model/proprio" in learner.drain_metrics()


@pytest.mark.parametrize("length", [2, 5, 6])
def test_of_however_short_a_sequence_something_is_dreamt(make_learner: Callable[..., VMIL], length: int) -> None:
    learner = make_learner(f"training.batch_length={length}", "behaviour.dream_starts=0")
    batch = make_batch()
    short = replace(batch, **{name: tensor[:length] for name, tensor in batch.tensors().items()})
    truth, dreamt = learner.open_loop_pictures(short)
    assert truth.shape == dreamt.shape == (length, B, 64, 64, 3)


def test_pretraining_batches_are_all_expert(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner()
    learner.training_step(make_batch(experts=B), 0)
    assert "disc/replay_accuracy" not in learner.drain_metrics()
    learner.training_step(make_batch(), 0)
    assert "disc/replay_accuracy" in learner.drain_metrics()


def test_a_gradient_that_is_no_number_stops_the_run_or_the_step(make_learner: Callable[..., VMIL]) -> None:
    batch = make_batch()
    batch.action[2, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="model loss is not finite at update 0"):
        make_learner().training_step(batch, 0)
    learner = make_learner("training.skip_nonfinite=true")
    before = snapshot(learner.world_model)
    learner.fit_model(batch)
    assert not changed(learner.world_model, before)


def test_an_evaluation_leaves_every_weight_and_buffer_alone(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("discriminator.spectral_norm=true")
    learner.training_step(make_batch(), 0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    metrics = judged(learner, np.linspace(0, 1, T, dtype=np.float32))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert -1 <= metrics["eval/reward_correlation"] <= 1


def test_the_probe_leaves_every_weight_and_buffer_alone(make_learner: Callable[..., VMIL]) -> None:
    """Else spectral norm's power iteration would go further with a mere look at D."""
    learner, batch = make_learner("discriminator.spectral_norm=true"), make_batch()
    posterior = learner.fit_model(batch)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.probe(posterior, batch, None)
    assert "disc/replay_accuracy" in learner.drain_metrics()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert learner.discriminator.training


@pytest.mark.parametrize("option", ["spectral_norm=true", "spectral_norm=false", "action_scale=3.0"])
def test_who_looks_on_from_another_process_judges_alike(make_learner: Callable[..., VMIL], option: str) -> None:
    learner = make_learner(f"discriminator.{option}")
    learner.training_step(make_batch(), 0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    sent = pickle.loads(pickle.dumps(learner.portable_evaluation())).discriminator
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    feat = torch.randn(6, learner.world_model.rssm.feat_size)
    triples = Triples(feat[:-1], torch.rand(5, A), feat[1:])
    ours = learner.discriminator.eval()
    torch.testing.assert_close(sent(sent.inputs(triples)), ours(ours.inputs(triples)).detach())
    learner.discriminator.train()
    learner.training_step(make_batch(), 0)  # which the copy has not spoilt


def test_the_evaluated_actor_follows_the_trained_one_by_its_share(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("behaviour.actor_average=0.25")
    assert learner.averaged_actor is not None
    before = snapshot(learner.averaged_actor)
    learner.training_step(make_batch(), 0)
    trained, averaged = snapshot(learner.actor), snapshot(learner.averaged_actor)
    assert changed(learner.actor, before)
    for old, new, slow in zip(before, trained, averaged, strict=True):
        torch.testing.assert_close(slow, old + 0.25 * (new - old))
    assert learner.evaluation_policy().actor is learner.averaged_actor
    assert learner.exploration_policy().actor is learner.actor
    assert not changed(learner.portable_evaluation().policy.actor, averaged)  # for another process too


def test_a_resumed_run_learns_at_the_configured_rates(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner(
        "behaviour.actor_lr=0.25", "behaviour.actor_beta=0.25", "behaviour.critic_lr=0.125", "world_model.eps=0.5"
    )
    for optimizer in learner.optimizers():
        for group in optimizer.param_groups:  # as a checkpoint brings them
            group.update(lr=9.0, eps=9.0, betas=(0.5, 0.5))
    learner.on_train_start()
    model, _, behaviour = learner.optimizers()
    assert [group["lr"] for group in behaviour.param_groups] == [0.25, 0.125]
    assert model.param_groups[0]["eps"] == 0.5
    assert behaviour.param_groups[0]["betas"] == (0.25, 0.999)


def test_each_part_has_its_own_epsilon_and_clip(
    make_learner: Callable[..., VMIL], monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = ("world_model", "discriminator", "behaviour")
    asked = [f"{name}.{key}={0.5 / 2**place}" for place, name in enumerate(sections) for key in ("eps", "clip")]
    learner = make_learner(*asked)
    assert [{group["eps"] for group in each.param_groups} for each in learner.optimizers()] == [{0.5}, {0.25}, {0.125}]
    clips: dict[str, float] = {}
    step = learner.stepper.step

    def noting(attempt: Attempt, optimizer: Any, loss: Tensor, parts: list[Part]) -> dict[str, Tensor]:
        clips.update({part.name: part.clip for part in parts})
        return step(attempt, optimizer, loss, parts)

    monkeypatch.setattr(learner.stepper, "step", noting)
    learner.training_step(make_batch(), 0)
    assert clips == {"model": 0.5, "disc": 0.25, "actor": 0.125, "critic": 0.125}


def test_optimisers_go_by_their_names(make_learner: Callable[..., VMIL]) -> None:
    """Each name's is the one of its place among what a checkpoint stores by place."""
    learner = make_learner()
    in_order = [learner.world_model, learner.discriminator, learner.actor]
    assert list(learner.make_optimizers()) == ["model", "disc", "actor"]
    for name, part in zip(("model", "disc", "actor"), in_order, strict=True):
        before = [snapshot(other) for other in in_order]
        learner.step(name, sum(weight.square().sum() for weight in part.parameters()), [Part(name, part)])
        assert [changed(*pair) for pair in zip(in_order, before, strict=True)] == [other is part for other in in_order]
    with pytest.raises(ValueError, match="no optimiser 'critic': this learner has model, disc, actor"):
        learner.step("critic", next(learner.critic.parameters()).sum(), [Part("critic", learner.critic)])


def test_without_a_clock_no_schedule_pretends_to_stand_at_its_beginning(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("discriminator.noise=annealed")
    learner.clock = None
    with pytest.raises(RuntimeError, match="no clock"):
        learner.training_step(make_batch(), 0)


def test_exploration_noise_lasts_as_long_as_asked(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("behaviour.exploration_std=0.5", "behaviour.exploration_frames=300")
    for frames, std in ((0, 0.5), (299, 0.5), (300, 0.0), (900, 0.0)):
        learner.clock.frames = frames
        assert learner.exploration_policy().noise.std() == std
    assert make_learner("behaviour.exploration_std=0.5").exploration_std() == 0.5


def test_a_constant_reward_has_no_correlation(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner()
    metrics = judged(learner, np.ones(T, np.float32))
    assert set(metrics) == {"eval/expert_prob"}


def test_the_reward_that_is_correlated_is_the_map_asked_for(make_learner: Callable[..., VMIL]) -> None:
    class Judge(nn.Module):
        """A discriminator whose logit is what the state says."""

        def spectator(self) -> Self:
            return self

        def inputs(self, triples: Triples) -> Tensor:
            return triples.feat

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs[..., 0]

    learner, logit = make_learner(), np.array([-3.0, 2.0, -1.0, 4.0, 0.5])
    learner.discriminator = Judge()  # type: ignore[assignment]
    rewards = np.array([0.0, 1.0, 0.2, 0.7, 0.9, 0.0], np.float32)
    d = 1 / (1 + np.exp(-logit))
    by_hand = {"probability": d, "log_d": np.log(d), "neg_log_one_minus_d": -np.log(1 - d), "logit": logit}
    found = []
    for kind, reward in by_hand.items():
        learner.config.discriminator.reward = kind  # type: ignore[assignment]
        examinee = learner.portable_evaluation()
        examinee._trace[:] = [(torch.full((1, 1), z), torch.zeros(1, A)) for z in (*logit, 0.0)]
        metrics = examinee.judge(Rollout([2.8], [T], [rewards], None, 0.0))
        found.append(metrics["eval/reward_correlation"])
        assert found[-1] == pytest.approx(np.corrcoef(reward, rewards[:-1])[0, 1], abs=1e-5)
    assert len({round(correlation, 3) for correlation in found}) == len(by_hand)  # no two maps are alike here


def test_another_process_is_sent_what_the_evaluation_policy_and_the_discriminator_are(
    make_learner: Callable[..., VMIL],
) -> None:
    learner, rewards = make_learner(), np.linspace(0, 1, T, dtype=np.float32)
    policy, shown, acted = learner.evaluation_policy(), make_batch().image, []
    for t in range(T):
        acted.append(policy(shown[t, :1], None, torch.tensor([t == 0])))
    expected = judged(learner, rewards)
    sent = pickle.loads(pickle.dumps(learner.portable_evaluation()))
    learner.training_step(make_batch(), 0)  # what is learnt now is not its affair
    rollout = play(sent, rewards)
    assert all(torch.equal(action, other) for action, (_, other) in zip(acted, sent._trace, strict=True))
    assert sent.judge(rollout) == expected


def play(examinee: TracedEvaluation, rewards: np.ndarray) -> Rollout:
    """One episode on arbitrary pictures, with such rewards."""
    shown = make_batch().image
    for t in range(T):
        examinee(shown[t, :1], None, torch.tensor([t == 0]))
    return Rollout([float(rewards.sum())], [T], [rewards], None, 0.0)


def judged(learner: VMIL, rewards: np.ndarray) -> dict[str, float]:
    """The metrics of that episode, besides its score."""
    examinee = learner.portable_evaluation()
    return examinee.judge(play(examinee, rewards))


class ActionRewarded(CountingEnv):
    """Its reward says which action it was given, in which seed's episode and when."""

    def _advance(self, action: np.ndarray) -> Outcome:
        return Outcome(reward=float(action[0]) + self.run_seed + 0.1 * self.time, terminated=False)


def test_the_trace_of_an_evaluation_is_matched_with_the_episodes_it_comes_from() -> None:
    learner = VMIL(load_config(list(SMALL)), 1, 0)
    config = EnvConfig(name="counting", action_repeat=1, episode_frames=4)
    count = SIDE_BY_SIDE + 2
    examinee = learner.portable_evaluation()
    rollout = evaluate(examinee, lambda seed: ActionRewarded(config, seed), count, seed=0)
    trace = list(examinee._trace)
    assert [len(feat) for feat, _ in trace] == [SIDE_BY_SIDE] * 4 + [2] * 4
    assert set(examinee.judge(rollout)) == {"eval/reward_correlation", "eval/expert_prob"}
    first = np.stack(rollout.rewards[:SIDE_BY_SIDE], axis=1)  # (T, N)
    acted = torch.stack([action[:, 0] for _, action in trace[:4]]).numpy()
    seeds = SEED_OFFSET + np.arange(SIDE_BY_SIDE)
    assert np.allclose(first, acted + seeds + 0.1 * np.arange(4)[:, None], atol=1e-2)
