"""Distributions against torch.distributions, and the fast forms against the plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Categorical, Independent, Normal, TanhTransform, TransformedDistribution, kl_divergence

from vmil.nets.conv import ImageDecoder, ImageEncoder, as_transposed
from vmil.nets.distributions import CategoricalLatent, GaussianLatent, normal_log_prob, tanh_log_jacobian
from vmil.nets.mlp import MLP, activation, dense, frozen


def test_gaussian_kl_and_entropy_agree_with_torch() -> None:
    latent, q, p = GaussianLatent(3, 0.1), torch.randn(5, 6), torch.randn(5, 6)
    normals = [Independent(Normal(*latent.moments(stats)), 1) for stats in (q, p)]
    torch.testing.assert_close(latent.kl(q, p), kl_divergence(*normals))
    torch.testing.assert_close(latent.entropy(q), normals[0].entropy())


def test_gaussian_sample_uses_the_given_noise() -> None:
    latent, stats = GaussianLatent(2, 0.1), torch.tensor([[1.0, -1.0, 0.0, 0.0]])
    std = torch.log(torch.tensor(2.0)) + 0.1  # softplus(0) + floor
    expected = torch.tensor([[1.0, -1.0]]) + std * torch.tensor([[2.0, -3.0]])
    torch.testing.assert_close(latent.sample(stats, torch.tensor([[2.0, -3.0]])), expected)


def test_categorical_kl_and_entropy_agree_with_torch() -> None:
    latent, q, p = CategoricalLatent(2, 3, unimix=0.1), torch.randn(5, 6), torch.randn(5, 6)
    mixed = [Categorical(logits=latent.log_probs(stats)) for stats in (q, p)]
    torch.testing.assert_close(latent.kl(q, p), kl_divergence(*mixed).sum(-1))
    torch.testing.assert_close(latent.entropy(q), mixed[0].entropy().sum(-1))


def test_categorical_unimix_leaves_no_probability_below_its_share() -> None:
    latent = CategoricalLatent(1, 4, unimix=0.2)
    probs = latent.log_probs(torch.tensor([[50.0, 0.0, 0.0, 0.0]])).exp()
    torch.testing.assert_close(probs[0, 0], torch.tensor([0.85, 0.05, 0.05, 0.05]))


def test_without_unimix_the_most_unlikely_class_still_has_a_finite_price() -> None:
    latent = CategoricalLatent(1, 2, unimix=0.0)
    sure, other = torch.tensor([[0.0, 200.0]], requires_grad=True), torch.tensor([[200.0, 0.0]], requires_grad=True)
    kl = latent.kl(sure, other)
    assert kl.item() == pytest.approx(200.0)
    assert all(torch.isfinite(slope).all() for slope in torch.autograd.grad(kl.sum(), [sure, other]))


def test_categorical_samples_follow_the_probabilities_and_pass_gradients() -> None:
    latent = CategoricalLatent(1, 3, unimix=0.0)
    stats = torch.tensor([0.5, 0.3, 0.2]).log().requires_grad_(True)
    noise = latent.noise(20_000, like=stats)
    sample = latent.sample(stats.expand(20_000, 3), noise)
    assert set(sample.detach().round(decimals=5).unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(sample.mean(0), torch.tensor([0.5, 0.3, 0.2]), atol=0.015, rtol=0)
    sample[:, 0].mean().backward()
    torch.testing.assert_close(stats.grad, torch.tensor([0.25, -0.15, -0.10]))  # d softmax_0 = p_0 (1 − p_0), −p_0 p_j


def test_tanh_normal_density_agrees_with_torch() -> None:
    mean, std, raw = torch.randn(4, 2), torch.rand(4, 2) + 0.2, torch.randn(4, 2)
    reference = Independent(TransformedDistribution(Normal(mean, std), TanhTransform()), 1)
    torch.testing.assert_close(
        normal_log_prob(raw, mean, std) - tanh_log_jacobian(raw), reference.log_prob(raw.tanh()), atol=1e-4, rtol=1e-4
    )


def test_first_decoder_layer_is_the_transposed_convolution() -> None:
    decoder = ImageDecoder(inputs=7, depth=3, act="elu")
    nn.init.normal_(decoder.first_bias)
    feat = torch.randn(4, 7)
    first = F.conv_transpose2d(
        decoder.project(feat)[:, :, None, None], as_transposed(decoder.first.weight), decoder.first_bias, stride=2
    )
    plain = decoder.rest(first).permute(0, 2, 3, 1)
    torch.testing.assert_close(decoder(feat), plain, atol=1e-5, rtol=1e-4)


def test_encoder_reads_and_decoder_writes_pictures() -> None:
    encoder = ImageEncoder(depth=2, act="elu")
    assert encoder(torch.zeros(3, 64, 64, 3)).shape == (3, encoder.outputs)
    assert ImageDecoder(inputs=5, depth=2, act="elu")(torch.zeros(3, 5)).shape == (3, 64, 64, 3)


def test_frozen_lets_gradients_through_but_not_in() -> None:
    net, inputs = MLP(3, 1, 1, 4), torch.randn(2, 3, requires_grad=True)
    with frozen(net):
        out = net(inputs).sum()
    out.backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
    assert all(weight.grad is None and weight.requires_grad for weight in net.parameters())


def test_unknown_options_raise() -> None:
    with pytest.raises(ValueError, match="relu"):
        activation("relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch"):
        dense(1, 1, "elu", "batch")  # type: ignore[arg-type]
