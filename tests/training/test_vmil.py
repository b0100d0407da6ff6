"""The training step: who learns from what, that it is deterministic, and that every option runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from small_learner import EXPERTS, A, B, T, changed, make_batch, snapshot
from torch import Tensor, nn

from vmil.data.transition import Batch, previous_actions
from vmil.imagination import DreamNoise, imagine
from vmil.nets.mlp import frozen
from vmil.training.vmil import VMIL
from vmil.world_model.model import preprocess
from vmil.world_model.rssm import State


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


def test_the_probe_leaves_every_weight_and_buffer_alone(make_learner: Callable[..., VMIL]) -> None:
    """Else spectral norm's power iteration would go further with a mere look at D."""
    learner, batch = make_learner("discriminator.spectral_norm=true"), make_batch()
    posterior = learner.fit_model(batch)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.probe(posterior, batch, None)
    assert "disc/replay_accuracy" in learner.drain_metrics()
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert learner.discriminator.training


def test_without_a_clock_no_schedule_pretends_to_stand_at_its_beginning(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("discriminator.noise=annealed")
    learner.clock = None
    with pytest.raises(RuntimeError, match="no clock"):
        learner.training_step(make_batch(), 0)
