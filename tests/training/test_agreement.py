"""What is said of an evaluation, and what is shown of a prediction, is of the right steps and in the right units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vmil.data.transition import Batch, previous_actions
from vmil.discriminator.network import Triples
from vmil.evaluation.rollout import Rollout
from vmil.training.agreement import agreement
from vmil.training.probe import CONTEXT, open_loop_pictures
from vmil.world_model.model import preprocess

T, N = 5, 3


class Judge(nn.Module):
    """A discriminator whose logit tells which state, action and next state it was given."""

    def inputs(self, triples: Triples) -> Triples:
        return triples

    def forward(self, triples: Triples) -> Tensor:
        return (triples.feat.square() + 3.0 * triples.action - 2.0 * triples.next_feat)[..., 0]


def test_the_reward_is_correlated_step_by_step_and_episode_by_episode() -> None:
    generator = np.random.default_rng(0)
    feat, action, rewards = (generator.normal(size=(T, N)).astype(np.float32) for _ in range(3))
    trace = [(torch.from_numpy(z)[:, None], torch.from_numpy(a)[:, None]) for z, a in zip(feat, action, strict=True)]
    rollout = Rollout([0.0] * N, [T] * N, list(rewards.T), None, 0.0)
    logit = feat[:-1] ** 2 + 3.0 * action[:-1] - 2.0 * feat[1:]
    found = agreement(Judge(), trace, rollout, "logit")  # type: ignore[arg-type]
    assert found["eval/reward_correlation"] == pytest.approx(
        np.corrcoef(logit.ravel(), rewards[:-1].ravel())[0, 1], abs=1e-5
    )
    assert found["eval/expert_prob"] == pytest.approx((1 / (1 + np.exp(-logit))).mean(), abs=1e-5)


def test_predicted_pictures_are_as_bright_as_the_camera_s_and_follow_the_actions_before_them() -> None:
    given: list[Tensor] = []

    class Seer:
        def open_loop(
            self, image: Tensor, proprio: Tensor | None, previous_action: Tensor, is_first: Tensor, context: int
        ) -> Tensor:
            given.append(previous_action)
            assert context == CONTEXT
            return image

    batch = Batch(
        image=torch.randint(0, 256, (8, 2, 64, 64, 3), dtype=torch.uint8),
        proprio=None,
        action=torch.rand(8, 2, 3),
        is_first=torch.zeros(8, 2, dtype=torch.bool),
        terminated=torch.zeros(8, 2, dtype=torch.bool),
        num_experts=1,
    )
    truth, dreamt = open_loop_pictures(Seer(), batch)  # type: ignore[arg-type]
    assert float(preprocess(batch.image).min()) < 0.0
    assert np.array_equal(truth, batch.image.numpy())
    assert np.array_equal(dreamt, truth)
    assert torch.equal(given[0], previous_actions(batch.action, batch.is_first))
