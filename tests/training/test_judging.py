"""Evaluations: what is judged of a played episode, by a copy that leaves the learner as it is."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Self

import numpy as np
import pytest
import torch
from small_learner import SMALL, A, T, changed, make_batch, snapshot
from torch import Tensor, nn

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.discriminator.network import Triples
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.evaluation.rollout import SEED_OFFSET, SIDE_BY_SIDE, Rollout, evaluate
from vmil.training.agreement import TracedEvaluation
from vmil.training.vmil import VMIL


def test_an_evaluation_leaves_every_weight_and_buffer_alone(make_learner: Callable[..., VMIL]) -> None:
    learner = make_learner("discriminator.spectral_norm=true")
    learner.training_step(make_batch(), 0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    metrics = judged(learner, np.linspace(0, 1, T, dtype=np.float32))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert -1 <= metrics["eval/reward_correlation"] <= 1


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
