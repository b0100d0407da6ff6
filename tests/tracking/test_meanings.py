"""Some metrics are what the registry says of them: those that once were not."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vmil.config.load import load_config
from vmil.config.options import RewardMap
from vmil.discriminator.network import Triples
from vmil.evaluation.rollout import Rollout
from vmil.training.agreement import agreement
from vmil.training.build import build_world_model
from vmil.world_model.loss import Frames, elbo_loss


class FirstFeature(nn.Module):
    """A discriminator whose logit is the first number of z."""

    def inputs(self, triples: Triples) -> Tensor:
        """As a discriminator."""
        return triples.feat

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, F) → (…,)."""
        return inputs[..., 0]


def judged(kind: RewardMap, logits: list[float], rewards: list[float]) -> dict[str, float]:
    """What is said of an episode in which D had these logits and the environment gave these rewards."""
    trace = [(torch.tensor([[logit]]), torch.zeros(1, 1)) for logit in (*logits, 0.0)]
    known = np.array([*rewards, 9.0], np.float32)  # the last step has no z' and is left out
    rollout = Rollout([float(known.sum())], [len(known)], [known], None, 0.0)
    return agreement(cast(Any, FirstFeature()), trace, rollout, kind)


def test_the_reward_is_correlated_not_the_logit() -> None:
    logits, d = [-40.0, 0.0, 30.0, 40.0], [0.0, 0.5, 1.0, 1.0]
    assert judged("probability", logits, d)["eval/reward_correlation"] == pytest.approx(1.0, abs=1e-5)
    assert judged("logit", logits, d)["eval/reward_correlation"] == pytest.approx(51.25 / (3875 * 0.6875) ** 0.5)
    log_d = [-40.0, -float(np.log(2)), 0.0, 0.0]
    assert judged("log_d", logits, log_d)["eval/reward_correlation"] == pytest.approx(1.0, abs=1e-5)


def test_a_saturated_reward_is_correlated_with_nothing() -> None:
    logits, rewards = [30.0, 40.0, 50.0], [1.0, 2.0, 3.0]
    assert judged("probability", logits, rewards) == {"eval/expert_prob": 1.0}  # D is 1 throughout
    assert judged("logit", logits, rewards)["eval/reward_correlation"] == pytest.approx(1.0)


@pytest.mark.parametrize("balance", [0.0, 0.8])
@pytest.mark.parametrize("free_nats", [0.0, 50.0])
def test_the_kl_after_free_nats_is_the_one_in_the_loss(balance: float, free_nats: float) -> None:
    model = build_world_model(load_config(["compute=debug"]), action_size=2, proprio_size=0)
    pixels, is_first = torch.rand(3, 2, 64, 64, 3) - 0.5, torch.zeros(3, 2, dtype=torch.bool)
    posterior, prior = model.observe(pixels, None, torch.rand(3, 2, 2), is_first)
    frames = Frames(pixels.flatten(0, 1), None)
    loss, metrics = elbo_loss(
        model, posterior, prior, frames, kl_scale=2.0, kl_balance=balance, free_nats=free_nats, fraction=1.0
    )
    assert not metrics["model/kl_free"].requires_grad
    assert float(metrics["model/kl_free"]) == pytest.approx(max(float(metrics["model/kl"]), free_nats))
    assert float(loss.detach()) == pytest.approx(float(metrics["model/reconstruction"] + 2 * metrics["model/kl_free"]))
