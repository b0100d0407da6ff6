"""The acting policy filters as training does and acts as its actor says; what noise adds to collected actions."""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vmil.acting import ActingPolicy, ActionNoise
from vmil.behaviour.actor import Actor, ClippedNormalHead
from vmil.config.options import LatentKind
from vmil.data.transition import previous_actions
from vmil.training.vmil import VMIL
from vmil.world_model.model import WorldModel, make_latent, preprocess

OPENING, LATER = torch.ones(1, dtype=torch.bool), torch.zeros(1, dtype=torch.bool)


def play(noise: ActionNoise, steps: int, actions: int = 400) -> Tensor:
    """One episode's noise, (steps, actions)."""
    like = torch.zeros(1, actions)
    return torch.cat([noise(like, LATER if step else OPENING) for step in range(steps)])


def test_white_noise_is_fresh_at_every_step() -> None:
    torch.manual_seed(0)
    drawn = play(ActionNoise(lambda: 0.5), 6)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.cat([0.5 * torch.randn(1, 400) for _ in range(6)]))


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_its_scale_stays_and_its_steps_are_as_alike_as_asked(correlation: float) -> None:
    torch.manual_seed(0)
    drawn = play(ActionNoise(lambda: 2.0, correlation=correlation), 40, actions=4000)
    assert torch.allclose(drawn.std(1), torch.full((40,), 2.0), rtol=0.06)  # 4000 draws: 1.1 % each
    alike = torch.stack([torch.corrcoef(drawn[t : t + 2])[0, 1] for t in range(39)])
    assert abs(alike.mean() - correlation) < 0.02


def test_an_episode_begins_with_noise_of_its_own() -> None:
    torch.manual_seed(0)
    noise = ActionNoise(lambda: 1.0, correlation=0.99)
    one = play(noise, 1, 4000)
    other = play(noise, 1, 4000)
    assert abs(torch.corrcoef(torch.cat([one, other]))[0, 1]) < 0.05


def test_each_episode_has_its_own_scale_and_keeps_it() -> None:
    torch.manual_seed(0)
    noise, scales = ActionNoise(lambda: 1.0, spread=0.5), []
    for _ in range(60):
        std = play(noise, 3, 4000).std(1)
        assert torch.allclose(std, std[:1].expand(3), rtol=0.06)
        scales.append(float(std[0]))
    assert 0.45 < min(scales) < 0.65
    assert 1.35 < max(scales) < 1.55


def test_rows_begin_apart() -> None:
    torch.manual_seed(0)
    noise, like = ActionNoise(lambda: 1.0, correlation=0.999), torch.zeros(2, 2000)
    first = noise(like, torch.ones(2, dtype=torch.bool))
    second = noise(like, torch.tensor([True, False]))
    assert torch.corrcoef(torch.stack([first[1], second[1]]))[0, 1] > 0.99
    assert abs(torch.corrcoef(torch.stack([first[0], second[0]]))[0, 1]) < 0.1


# ---- the policy ------------------------------------------------------------------------------------------------------

T, N, A, P, STD = 6, 3, 2, 4, 0.1
# Row 0 goes on throughout, row 1 begins anew at 2 and 3, row 2 at 4; nobody is told of the beginning of row 0.
FIRST = torch.tensor([[0, 1, 1], [0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)


def make_networks(latent: LatentKind = "gaussian", proprio: int = P) -> tuple[WorldModel, Actor]:
    """A tiny model, and an actor whose actions differ from state to state."""
    torch.manual_seed(0)
    model = WorldModel(
        action_size=A,
        proprio_size=proprio,
        latent=make_latent(latent, 6, 4, 0.1, 0.01),
        deter=12,
        hidden=12,
        depth=2,
        activation="elu",
        norm="none",
        proprio_hidden=8,
        reward_head=False,
        bf16=False,
    )
    head = ClippedNormalHead(init_std=STD, min_std=0.05, max_std=0.4)
    actor = Actor(model.rssm.feat_size, A, 12, 1, "elu", "none", head)
    nn.init.normal_(actor.net.head.weight[:A], std=0.3)  # of the means; the scale stays the initial one
    return model, actor


def make_seen(rows: int = N) -> tuple[Tensor, Tensor]:
    """Pictures (T, N, 64, 64, 3) and vectors (T, N, P)."""
    draw = torch.Generator().manual_seed(5)
    image = torch.randint(0, 256, (T, rows, 64, 64, 3), dtype=torch.uint8, generator=draw)
    return image, torch.randn(T, rows, P, generator=draw)


def act(policy: ActingPolicy, image: Tensor, proprio: Tensor, is_first: Tensor = FIRST) -> tuple[Tensor, Tensor]:
    """Its features (T, N, F) and actions (T, N, A)."""
    policy.trace = []
    returned = torch.stack([policy(image[t], proprio[t], is_first[t]) for t in range(len(image))])
    feats, acted = (torch.stack(part) for part in zip(*policy.trace, strict=True))
    assert torch.equal(returned, acted)
    return feats, acted


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
@pytest.mark.parametrize("deterministic", [True, False])
@torch.no_grad()
def test_acting_filters_as_training_does(
    latent: LatentKind, deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, actor = make_networks(latent)
    image, proprio = make_seen()
    drawn: list[Tensor] = []
    original = model.rssm.latent.noise

    def kept(*shape: int, like: Tensor) -> Tensor:
        drawn.append(original(*shape, like=like))
        return drawn[-1]

    monkeypatch.setattr(model.rssm.latent, "noise", kept)
    noise = ActionNoise(lambda: 0.5, correlation=0.5)
    feat, action = act(ActingPolicy(model, actor, deterministic=deterministic, noise=noise), image, proprio)
    # Without noise a sample is the mode, of either family.
    latent_noise = torch.zeros_like(torch.stack(drawn)) if deterministic else torch.stack(drawn)

    def filtered(previous: Tensor) -> Tensor:
        return model.observe(preprocess(image), proprio, previous, FIRST, latent_noise)[0].feat

    torch.testing.assert_close(feat, filtered(previous_actions(action, FIRST)), atol=1e-5, rtol=1e-4)
    for other in (torch.zeros_like(action), action):  # actions are told, and at the right time
        assert not torch.allclose(feat, filtered(other), atol=1e-3)
    if deterministic:
        torch.testing.assert_close(action, actor(feat).mode())
        assert float(action.std(0).min()) > 1e-3


def test_deterministic_acting_leaves_nothing_to_chance() -> None:
    model, actor = make_networks()
    first, second = (act(ActingPolicy(model, actor, deterministic=True), *make_seen())[1] for _ in range(2))
    assert torch.equal(first, second)
    sampled = [act(ActingPolicy(model, actor), *make_seen())[1] for _ in range(2)]
    assert not torch.allclose(*sampled, atol=0.1 * STD)


@pytest.mark.parametrize("std", [0.0, 0.2])
def test_exploration_adds_its_own_scatter_to_the_actors(std: float) -> None:
    model, actor = make_networks()
    image, proprio = make_seen(rows=100)
    first = torch.zeros(T, 100, dtype=torch.bool)
    feat, action = act(ActingPolicy(model, actor, noise=ActionNoise(lambda: std)), image, proprio, first)
    around = action - actor(feat).mode().detach()
    assert float(around.std()) == pytest.approx(math.hypot(STD, std), rel=0.1)  # 1200 draws: 2 %
    assert abs(float(around.mean())) < 0.03


def test_actions_stay_in_their_box_whatever_the_noise() -> None:
    _, action = act(ActingPolicy(*make_networks(), noise=ActionNoise(lambda: 9.0)), *make_seen())
    assert float(action.abs().max()) == 1.0


def test_weights_are_shared_and_a_portable_copy_keeps_those_of_its_making() -> None:
    model, actor = make_networks()
    image, proprio = make_seen()
    make = functools.partial(ActingPolicy, model, actor, noise=ActionNoise(lambda: 0.3))
    policy, sent = make(), make().portable()
    torch.manual_seed(1)
    before = policy(image[0], proprio[0], FIRST[0])
    nn.init.constant_(actor.net.head.bias[:A], 0.5)
    torch.manual_seed(1)
    assert torch.equal(sent(image[0], proprio[0], FIRST[0]), before)
    torch.manual_seed(1)
    assert float((make()(image[0], proprio[0], FIRST[0]) - before).mean()) > 0.2


@pytest.mark.parametrize("proprio", [0, P])
def test_a_portable_copy_is_sent_without_what_does_not_act(proprio: int) -> None:
    policy = ActingPolicy(*make_networks(proprio=proprio), deterministic=True)
    sent = policy.portable()
    acting = {f"{part}.{name}" for part, net in policy.networks().items() for name in net.state_dict()}
    where = {name if name.startswith("actor.") else f"model.{name}" for name in acting}
    assert set(sent.state_dict()) == where | {"std"}
    learnt = {id(weight) for net in policy.networks().values() for weight in net.parameters()}
    assert not learnt & {id(weight) for weight in sent.parameters()}
    image, vector = make_seen()
    seen = image[0], vector[0] if proprio else None, FIRST[0]
    assert torch.equal(pickle.loads(pickle.dumps(sent))(*seen), policy(*seen))


@torch.no_grad()
def test_another_number_of_environments_begins_anew() -> None:
    model, actor = make_networks()
    image, proprio = make_seen()
    policy, nobody = ActingPolicy(model, actor, deterministic=True), torch.zeros(N, dtype=torch.bool)
    fresh = policy(image[0], proprio[0], nobody)
    policy(image[1, :2], proprio[1, :2], nobody[:2])
    assert torch.equal(policy(image[0], proprio[0], nobody), fresh)
    assert not torch.allclose(policy(image[0], proprio[0], nobody), fresh, atol=1e-4)


def test_exploration_noise_lasts_as_long_as_asked(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("behaviour.exploration_std=0.5", "behaviour.exploration_frames=300")
    for frames, std in ((0, 0.5), (299, 0.5), (300, 0.0), (900, 0.0)):
        learner.clock.frames = frames
        assert learner.exploration_policy().noise.std() == std
    assert make_learner("behaviour.exploration_std=0.5").exploration_std() == 0.5
