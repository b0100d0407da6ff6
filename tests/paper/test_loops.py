"""Gradients taken once over all steps against those that autograd adds up step by step."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tiny_models import MakeModel
from torch import Tensor

from vmil.nets.loops import LoopedLinear
from vmil.world_model.rssm import State


def test_a_looped_layer_is_a_linear_one_in_a_recurrence() -> None:
    torch.manual_seed(0)
    weight, base = (torch.randn(*shape, requires_grad=True) for shape in ((3, 3), (4, 2, 3)))
    results = []
    for looped in (True, False):
        layer, hidden = LoopedLinear(weight, base), torch.ones(2, 3)
        for t in range(4):
            hidden = (layer(hidden) if looped else base[t] + hidden @ weight.t()).tanh()
        results.append([hidden.detach(), *torch.autograd.grad(hidden.square().sum(), [weight, base])])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_frozen_weight_gets_no_gradient_and_passes_it_on() -> None:
    weight, base = torch.randn(3, 3), torch.zeros(2, 1, 3)
    start = torch.ones(1, 3, requires_grad=True)
    layer = LoopedLinear(weight, base)
    layer(layer(start)).sum().backward()
    torch.testing.assert_close(start.grad, torch.ones(1, 3) @ weight @ weight)


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_observe_learns_what_obs_step_repeated_learns(
    make_model: MakeModel, latent: Literal["gaussian", "categorical"], norm: Literal["none", "layer"]
) -> None:
    """Every gradient of the RSSM, and of the embeddings and actions it is given, through forgetting too."""
    torch.manual_seed(0)
    rssm = make_model(latent=latent, norm=norm).rssm
    length, batch = 5, 3
    embedding = torch.randn(length, batch, rssm.from_embedding.in_features, requires_grad=True)
    action = (torch.rand(length, batch, 2) * 2 - 1).requires_grad_()
    is_first = torch.zeros(length, batch, dtype=torch.bool)
    is_first[0], is_first[3, 1] = True, True
    noise = rssm.latent.noise(length, batch, like=embedding)
    given = [embedding, action, *rssm.parameters()]

    def stepped() -> tuple[State, Tensor]:
        state, states = rssm.initial(batch, embedding), []
        for t in range(length):
            state = rssm.obs_step(state, action[t], embedding[t], is_first[t], noise[t])
            states.append(state)
        posterior = State(*(torch.stack(parts) for parts in zip(*states, strict=True)))
        return posterior, rssm.prior_head(posterior.deter)

    results = []
    for posterior, prior in (rssm.observe(embedding, action, is_first, noise), stepped()):
        loss = posterior.feat.square().sum() + rssm.latent.kl(posterior.stats, prior).sum()
        results.append([loss.detach(), *torch.autograd.grad(loss, given)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
