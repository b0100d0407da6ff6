"""The dream and what hangs on it, multiplied in bfloat16, against the same in fp32 from the same weights and noise.

Both ways of multiplying are tried on every processor; where it has no AMX, factors are rounded by hand for that way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vmil.behaviour.actor import Actor, ClippedNormalHead, TanhNormalHead
from vmil.behaviour.critic import Critic
from vmil.behaviour.returns import lambda_return
from vmil.config.load import load_config
from vmil.config.options import Activation, Norm
from vmil.discriminator.loss import cross_entropy, input_penalty
from vmil.discriminator.network import Discriminator
from vmil.imagination import Dream, DreamNoise, imagine
from vmil.learner import device
from vmil.learner.device import products_in_bf16, use_bf16_products
from vmil.nets.mlp import MLP, frozen
from vmil.nets.products import products_are_rounded, rounded_products
from vmil.system.machine import has_amx
from vmil.training.vmil import VMIL
from vmil.world_model.model import make_latent
from vmil.world_model.rssm import RSSM, State

HORIZON, N, A, DETER, STOCH, UNITS = 15, 64, 3, 64, 12, 80
CPU = torch.device("cpu")
FORMS: list[tuple[Norm, Activation]] = [("layer", "silu"), ("none", "elu")]


@pytest.fixture(autouse=True)
def _plain_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


class Rounding(TorchDispatchMode):
    """Multiplies matrices as a processor with bfloat16 does: factors rounded to it, sums in fp32."""

    FIRST_FACTOR = {"aten::mm": 0, "aten::bmm": 0, "aten::addmm": 1, "aten::baddbmm": 1}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if (first := self.FIRST_FACTOR.get(func._schema.name)) is not None:
            args = (*args[:first], *(factor.bfloat16().float() for factor in args[first:]))
        return func(*args, **(kwargs or {}))


@contextmanager
def bf16(amx: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`products_in_bf16` on a processor with or without AMX."""
    monkeypatch.setattr(device, "has_amx", lambda: amx)
    with products_in_bf16(True), Rounding() if amx and not has_amx() else nullcontext():
        yield


class Imitator:
    """Networks of a third of the usual width, none of whose layers is silent."""

    def __init__(self, norm: Norm, act: Activation) -> None:
        torch.manual_seed(0)
        self.rssm = RSSM(make_latent("gaussian", STOCH, 0, 0.1, 0.0), 8, A, DETER, UNITS, act, norm)
        feat = self.rssm.feat_size
        head = ClippedNormalHead(0.3, 0.1, 0.5) if norm == "layer" else TanhNormalHead(5.0, 0.3, 0.1)
        self.actor = Actor(feat, A, UNITS, 3, act, norm, head)
        self.critic = Critic(feat, UNITS, 2, act, norm, 0.0)
        self.discriminator = Discriminator(feat, A, UNITS, 2, act, True, False)
        for network in (self.actor.net, self.critic.net):
            nn.init.normal_(network.head.weight, std=0.1)

    def dream(self) -> tuple[Dream, Tensor, Tensor]:
        """15 steps; returns (H, N); their mean's gradient, through critic, judge and model, in the actor's weights."""
        torch.manual_seed(1)
        stats = torch.zeros(N, 2 * STOCH)
        start = State(torch.randn(N, DETER).tanh(), torch.randn(N, STOCH), stats)
        noise = DreamNoise(torch.randn(HORIZON, N, A), torch.randn(HORIZON, N, STOCH))
        with frozen(self.rssm, self.discriminator, self.critic):
            dream = imagine(self.rssm, self.actor, start, HORIZON, noise)
            reward = self.discriminator(self.discriminator.inputs(dream.triples()))
            returns = lambda_return(reward, self.critic.target(dream.feat), 0.99, 0.95)
        return dream, returns, gradient(returns.mean(), self.actor)


def gradient(loss: Tensor, module: nn.Module) -> Tensor:
    """In all weights, as one vector; a weight that the loss does not reach counts as zeros."""
    weights = list(module.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, found, strict=True)])


def cosine(one: Tensor, other: Tensor) -> float:
    """Of the angle between two vectors."""
    return float(F.cosine_similarity(one.double(), other.double(), dim=0))


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize(("norm", "act"), FORMS)
def test_a_dream_its_returns_and_the_actors_gradient(
    norm: Norm, act: Activation, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States within 1 % in norm over 15 steps, returns within 3 % of their spread, gradients within 1.8 degrees."""
    imitator = Imitator(norm, act)
    plain, plain_returns, exact = imitator.dream()
    with bf16(amx, monkeypatch):
        half, half_returns, rounded = imitator.dream()
    for part in ("feat", "action", "entropy"):
        one, other = getattr(plain, part), getattr(half, part)
        assert other.dtype == torch.float32
        assert (one - other).norm() < 0.01 * one.norm()
    assert (plain_returns - half_returns).std() < 0.03 * plain_returns.std()
    assert cosine(exact, rounded) > 0.9995
    assert 0.98 < rounded.norm() / exact.norm() < 1.02
    assert not torch.equal(exact, rounded)


@pytest.mark.parametrize("amx", [True, False])
@pytest.mark.parametrize("act", ["silu", "elu"])
@pytest.mark.parametrize("what", ["cross-entropy", "penalty"])
def test_the_discriminators_gradient_even_twice_differentiated(
    act: Activation, what: str, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(20, A, UNITS, 2, act, True, False)
    expert, policy = torch.randn(N, 43) + 0.3, torch.randn(N, 43)
    found = []
    for half in (False, True):
        torch.manual_seed(1)
        with bf16(amx, monkeypatch) if half else nullcontext():
            if what == "penalty":
                loss = input_penalty(discriminator, expert, policy, 1.0)[0]
            else:
                loss = cross_entropy(discriminator(expert), discriminator(policy))
            found.append((loss.detach(), gradient(loss, discriminator)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=2e-3, atol=0.0)
    assert 0.999 < cosine(found[0][1], found[1][1]) < 1.0


def way() -> str:
    """How hidden layers multiply at the moment."""
    return "rounded" if products_are_rounded() else torch.get_float32_matmul_precision()


@pytest.mark.parametrize(("amx", "inside"), [(True, "medium"), (False, "rounded")])
def test_precision_is_as_it_was_afterwards(amx: bool, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_amx", lambda: amx)

    def fail() -> None:
        assert way() == inside
        raise RuntimeError("midway")

    with products_in_bf16(False):
        assert way() == "highest"
    with pytest.raises(RuntimeError, match="midway"), products_in_bf16(True):
        fail()
    assert way() == "highest"


@pytest.mark.parametrize(
    ("precision", "amx", "inside"), [("fp32", True, "highest"), ("bf16", True, "medium"), ("bf16", False, "rounded")]
)
def test_a_learner_multiplies_as_its_precision_says(
    precision: str, amx: bool, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is fitted as ever; an fp32 run never rounds."""
    monkeypatch.setattr(device, "has_amx", lambda: amx)
    learner = VMIL(load_config(["env=counting", "compute=debug", f"compute.precision={precision}"]), A, 0)
    seen: list[str] = []
    for stage in ("fit_model", "dream", "expert_triples", "fit_discriminator", "reward", "fit_behaviour", "probe"):
        monkeypatch.setattr(learner, stage, lambda *_: (seen.append(way()), None))
    learner.learn(None)  # type: ignore[arg-type]
    assert seen == ["highest", *[inside] * 6]


def test_a_network_answers_exactly_from_rounded_hidden_layers() -> None:
    """Rounded as by hand, in the input's format; the last layer is not."""
    torch.manual_seed(0)
    net, inputs = MLP(6, 2, layers=1, units=8), torch.randn(5, 6)
    hidden = net[0][0]
    with rounded_products():
        found = net(inputs)
    product = (inputs.bfloat16() @ hidden.weight.bfloat16().t()).float() + hidden.bias
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, net.head(F.elu(product)), rtol=1e-6, atol=1e-6)
    assert not torch.equal(found, net(inputs))


def test_a_gpu_is_left_to_its_own_formats() -> None:
    config = load_config(["env=counting", "compute.precision=bf16"])
    assert use_bf16_products(config, CPU)
    assert not use_bf16_products(config, torch.device("cuda"))
