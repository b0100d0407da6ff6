"""The RSSM's two paths agree, forgetting works, and the ELBO is what the equation says."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tiny_models import MakeModel
from torch import Tensor

from vmil.nets.distributions import GaussianLatent
from vmil.world_model.loss import Frames, elbo_loss, kl_loss, reconstruction_loss
from vmil.world_model.model import Prediction, WorldModel, make_latent, preprocess
from vmil.world_model.rssm import State


def sequence(model: WorldModel, length: int = 5, batch: int = 3) -> dict[str, Tensor]:
    is_first = torch.zeros(length, batch, dtype=torch.bool)
    is_first[0, :2] = True
    is_first[3, 1] = True
    return {
        "embedding": torch.randn(length, batch, model.encoder.outputs),
        "action": torch.rand(length, batch, 2) * 2 - 1,
        "is_first": is_first,
        "noise": model.rssm.latent.noise(length, batch, like=torch.zeros(())),
    }


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_observe_is_obs_step_repeated(
    make_model: MakeModel, latent: Literal["gaussian", "categorical"], norm: Literal["none", "layer"]
) -> None:
    model = make_model(latent=latent, norm=norm)
    data = sequence(model)
    posterior, prior_stats = model.rssm.observe(**data)
    state = model.rssm.initial(3, data["embedding"])
    for t in range(5):
        # The prior sees what the posterior saw, less the image.
        keep = (~data["is_first"][t]).float()[:, None]
        forgot = State(state.deter * keep, state.stoch * keep, state.stats)
        dreamt = model.rssm.img_step(forgot, data["action"][t] * keep, data["noise"][t])
        state = model.rssm.obs_step(
            state, data["action"][t], data["embedding"][t], data["is_first"][t], data["noise"][t]
        )
        for stepped, scanned in zip(state, posterior.at(t), strict=True):
            torch.testing.assert_close(stepped, scanned)
        torch.testing.assert_close(dreamt.stats, prior_stats[t])


def test_imagine_is_img_step_repeated(make_model: MakeModel) -> None:
    model = make_model()
    start = model.rssm.initial(3, torch.zeros(()))
    actions, noise = torch.rand(4, 3, 2), torch.randn(4, 3, 4)
    dream, state = model.rssm.imagine(start, actions, noise), start
    for t in range(4):
        state = model.rssm.img_step(state, actions[t], noise[t])
        torch.testing.assert_close(state.feat, dream.feat[t])


def test_nothing_before_is_first_is_remembered(make_model: MakeModel) -> None:
    model = make_model()
    data = sequence(model)
    other = {name: value.clone() for name, value in data.items()}
    other["embedding"][:3, 1] += 1.0
    other["action"][:4, 1] = 0.3  # action[3] led to the frame that opens an episode: it must not be read either
    one, _ = model.rssm.observe(**data)
    two, _ = model.rssm.observe(**other)
    torch.testing.assert_close(one.feat[3:, 1], two.feat[3:, 1])
    assert not torch.allclose(one.feat[2, 1], two.feat[2, 1])


def test_kl_is_averaged_before_it_is_clipped() -> None:
    latent = GaussianLatent(1, 0.1)
    raw = 0.5413248546129181 - 0.0  # softplus(raw) = 1
    low = torch.tensor([[0.0, raw], [4.0, raw]])  # KL 0 and 8 / 1.1² apart
    prior = torch.tensor([[0.0, raw], [0.0, raw]])
    mean = 0.5 * (0.0 + 0.5 * 16 / 1.1**2)
    loss, value = kl_loss(latent, low, prior, balance=0.0, free_nats=3.0)
    assert float(value) == pytest.approx(mean, rel=1e-5)
    assert float(loss) == pytest.approx(mean, rel=1e-5)  # clipped one by one it would be (3 + 6.6) / 2
    loss, _ = kl_loss(latent, low, prior, balance=0.8, free_nats=5.0)
    assert float(loss) == pytest.approx(5.0)


def test_kl_balance_shares_the_gradient() -> None:
    latent = GaussianLatent(2, 0.1)
    posterior, prior = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    plain = torch.autograd.grad(kl_loss(latent, posterior, prior, 0.0, 0.0)[0], [posterior, prior])
    shared = torch.autograd.grad(kl_loss(latent, posterior, prior, 0.8, 0.0)[0], [posterior, prior])
    torch.testing.assert_close(shared[0], 0.2 * plain[0])
    torch.testing.assert_close(shared[1], 0.8 * plain[1])


def test_below_the_free_nats_the_kl_gives_no_gradient() -> None:
    latent, stats = GaussianLatent(2, 0.1), torch.randn(6, 4, requires_grad=True)
    loss, _ = kl_loss(latent, stats, stats.detach() + 0.01, 0.8, 3.0)
    assert float(loss) == pytest.approx(3.0)
    (gradient,) = torch.autograd.grad(loss, stats)
    assert float(gradient.abs().sum()) == 0.0


def test_reconstruction_is_half_the_squared_error_summed_over_pixels(make_model: MakeModel) -> None:
    model = make_model(proprio=3)
    feat, image, proprio = torch.randn(4, 12), torch.rand(4, 64, 64, 3) - 0.5, torch.randn(4, 3)
    loss, metrics = reconstruction_loss(model, feat, Frames(image, proprio), fraction=1.0)
    seen = model.predict(feat)
    assert seen.proprio is not None
    pixels = sum(0.5 * float((seen.image[n] - image[n]).square().sum()) for n in range(4)) / 4
    body = sum(0.5 * float((seen.proprio[n] - proprio[n]).square().sum()) for n in range(4)) / 4
    assert float(loss) == pytest.approx(pixels + body, rel=1e-5)
    assert float(metrics["model/proprio"]) == pytest.approx(body, rel=1e-5)


def test_reconstructing_a_fraction_estimates_the_whole(make_model: MakeModel) -> None:
    model = make_model()
    feat, frames = torch.randn(8, 12), Frames(torch.rand(8, 64, 64, 3) - 0.5, None)
    whole = float(reconstruction_loss(model, feat, frames, 1.0)[0])
    parts = [float(reconstruction_loss(model, feat, frames, 0.25)[0].detach()) for _ in range(60)]
    assert sum(parts) / 60 == pytest.approx(whole, rel=0.02)
    assert max(parts) > min(parts)


def test_of_a_fraction_each_frame_is_held_against_its_own() -> None:
    """Pictures and vectors of which each row says which it is."""

    class Exact:
        def predict(self, feat: Tensor) -> Prediction:
            return Prediction(feat[:, :1, None, None].expand(-1, 64, 64, 3), feat)

    feat = torch.arange(24.0).reshape(8, 3)
    frames = Frames(feat[:, :1, None, None].expand(-1, 64, 64, 3), feat)
    for _ in range(5):
        loss, metrics = reconstruction_loss(Exact(), feat, frames, 0.5)  # type: ignore[arg-type]
        assert float(loss) == float(metrics["model/reconstruction"]) == float(metrics["model/proprio"]) == 0.0


def test_elbo_trains_every_weight_that_generates(make_model: MakeModel) -> None:
    model = make_model(proprio=3, reward_head=True)
    image, proprio = torch.randint(0, 256, (5, 3, 64, 64, 3), dtype=torch.uint8), torch.randn(5, 3, 3)
    is_first = torch.zeros(5, 3, dtype=torch.bool)
    pixels = preprocess(image)
    posterior, prior = model.observe(pixels, proprio, torch.rand(5, 3, 2), is_first)
    loss, metrics = elbo_loss(
        model,
        posterior,
        prior,
        Frames(pixels.flatten(0, 1), proprio.flatten(0, 1)),
        torch.rand(4, 3),
        kl_scale=1.0,
        kl_balance=0.8,
        free_nats=0.0,
        fraction=1.0,
    )
    loss.backward()
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert idle == []
    total = sum(float(metrics[f"model/{part}"]) for part in ("reconstruction", "proprio", "kl", "reward"))
    assert float(loss) == pytest.approx(total, rel=1e-4)


def test_preprocess_maps_bytes_to_plus_minus_a_half() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(preprocess(image), torch.tensor([-0.5, -0.3, 0.5]))
    assert image.tolist() == [0, 51, 255]  # the replay's bytes are left alone


def test_open_loop_sees_only_its_context(make_model: MakeModel) -> None:
    model = make_model()
    image = torch.rand(6, 2, 64, 64, 3) - 0.5
    action, is_first = torch.rand(6, 2, 2), torch.zeros(6, 2, dtype=torch.bool)
    torch.manual_seed(1)
    one = model.open_loop(image, None, action, is_first, context=3)
    image[3:] += 0.3
    torch.manual_seed(1)
    two = model.open_loop(image, None, action, is_first, context=3)
    assert one.shape == (6, 2, 64, 64, 3)
    torch.testing.assert_close(one, two)


def test_open_loop_goes_on_from_its_last_frame_by_the_action_that_leads_to_each(make_model: MakeModel) -> None:
    model = make_model()
    image, is_first = torch.rand(6, 2, 64, 64, 3) - 0.5, torch.zeros(6, 2, dtype=torch.bool)
    action = torch.rand(6, 2, 2)

    def dreamt() -> Tensor:
        torch.manual_seed(1)
        return model.open_loop(image, None, action, is_first, context=3)

    first = dreamt()
    action[5] *= -1.0
    other_action = dreamt()
    assert torch.equal(other_action[:5], first[:5])
    assert not torch.allclose(other_action[5], first[5])
    image[2] += 0.3
    other_frame = dreamt()
    assert torch.equal(other_frame[:2], first[:2])
    assert not torch.allclose(other_frame[3], first[3])


def test_a_model_with_a_body_asks_for_it(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="3 proprioceptive numbers"):
        make_model(proprio=3).encode(torch.zeros(1, 64, 64, 3), None)


def test_unknown_latent_raises() -> None:
    with pytest.raises(ValueError, match="cauchy"):
        make_latent("cauchy", 1, 1, 0.1, 0.0)  # type: ignore[arg-type]
