"""The data module: the plan of epochs, and what a batch holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from counting_run import DEMO_EPISODE, REPEAT, STEPS, CountingPolicy, action_of, module
from torch import Tensor

from vmil.config.learners import settle
from vmil.config.schema import Config
from vmil.config.schema_baselines import LearnerKind
from vmil.data.transition import previous_actions
from vmil.envs.counting import CountingEnv
from vmil.envs.episodes import Outcome
from vmil.errors import UserError


def test_from_the_counting_environment_to_triples(config: Config, decode: Callable[[Tensor], Tensor]) -> None:
    """Collector, replay, slice, batch: (x_t, a_t, x_t+1) and what led to x_t, for expert and policy alike."""
    config.training.pretrain_updates = 0
    data = module(config)
    columns: list[set[int]] = [set(), set()]
    firsts = 0
    for _ in range(4):
        for batch in data.train_dataloader():
            episode, t = decode(batch.image).unbind(-1)  # (T, B)
            assert (episode[1:] == episode[:-1]).all()  # no slice leaves its episode
            assert (t[1:] == t[:-1] + 1).all()
            expected = torch.tensor([[action_of(*pair) for pair in row] for row in decode(batch.image).tolist()])
            assert torch.equal(batch.action[..., 0], expected)
            previous = previous_actions(batch.action, batch.is_first)
            assert torch.equal(previous[1:, :, 0], expected[:-1])
            assert (previous[0] == 0).all()
            assert torch.equal(batch.is_first, t == 0)
            firsts += int(batch.is_first.sum())
            columns[0] |= set(episode[:, : batch.num_experts].unique().tolist())
            columns[1] |= set(episode[:, batch.num_experts :].unique().tolist())
    assert firsts > 0
    assert columns[0] <= {DEMO_EPISODE + index for index in range(3)}
    assert columns[1] <= set(range(8))
    assert len(columns[1]) > 2
    data.close()


@pytest.mark.parametrize(("updates", "after"), [(1, [4]), (2, [2, 4]), (3, [2, 3, 4]), (8, [1, 1, 2, 2, 3, 3, 4, 4])])
def test_each_episode_is_followed_by_its_share_of_updates(config: Config, updates: int, after: list[int]) -> None:
    """`after`: how many episodes were there at each of a round's updates."""
    config.training.pretrain_updates, config.training.updates_per_epoch = 0, updates
    config.training.episode_frames = 20
    data = module(config)
    for goal in (80, 160):
        seen = [data.replay.episodes for _ in data.train_dataloader()]
        assert seen == [(goal - 80) // 20 + episodes for episodes in after]
        assert data.frames == goal
    data.close()


def test_the_plan_of_epochs(config: Config) -> None:
    data = module(config)
    assert data.pace.epochs == 1 + 400 // 80
    frames, batches, experts = [], [], []
    for _ in range(3):
        length = data.pace.round_length
        epoch = list(data.train_dataloader())
        assert len(epoch) == length
        frames.append(data.frames)
        batches.append(len(epoch))
        experts.append({batch.num_experts for batch in epoch})
    assert frames == [0, 80, 160]
    assert batches == [2, 3, 3]
    assert experts == [{8}, {2}, {2}]  # pre-training sees the demonstrations alone; then round(8 * 0.25)
    assert len(data.round_collector.tally.returns) == 2
    assert data.metrics["replay/frames"] == 160
    assert data.metrics["collect/episodes"] == 4
    assert data.metrics["collect/return"] == 0
    assert {"time/act", "time/render", "time/env", "time/collect", "time/sample"} <= set(data.metrics)
    data.close()


class SucceedingEnv(CountingEnv):
    """Every second episode succeeds."""

    SCORES = ("success",)

    def _episode_scores(self) -> dict[str, float]:
        return {"success": float(self.episode % 2)}


def test_success_is_reported_and_stored_nowhere(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmil.data.parallel.make_env", SucceedingEnv)
    config.training.pretrain_updates = 0
    data = module(config)
    *_, batch = data.epoch()
    assert data.metrics["collect/success"] == 0.5
    assert "success" not in set(vars(batch)) | set(data.replay.sample(1, 2).keys())
    data.close()


@pytest.mark.parametrize(("fraction", "experts"), [(0.0, 1), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_expert_columns(config: Config, fraction: float, experts: int) -> None:
    config.training.demo_fraction, config.training.pretrain_updates = fraction, 0
    data = module(config)
    batch = next(data.epoch())
    assert batch.num_experts == data.num_experts == experts
    assert (batch.image[0, :experts, 0, 0, 0] >= DEMO_EPISODE).all()
    assert (batch.image[0, experts:, 0, 0, 0] < DEMO_EPISODE).all()
    assert batch.image.is_contiguous()
    assert batch.image.shape == (6, 8, 8, 8, 3)
    data.close()


def test_half_of_every_batch_of_stacked_transitions_is_the_expert_s(
    config: Config, decode: Callable[[Tensor], Tensor]
) -> None:
    """SQIL's: stacks of three, in which an episode's first frame stands for those before it."""
    config.learner, config.training.demo_fraction = "sqil_drq", 0.25
    settle(config)
    data, seen = module(config), set()
    for _ in range(40):
        for batch in data.epoch():
            assert batch.num_experts == 4
            assert batch.image.shape[:2] == (4, 8)
            assert not batch.terminated.any()  # the counting environment knows time limits only
            episode, t = decode(batch.image).unbind(-1)  # (4, B)
            assert (episode[:, :4] >= DEMO_EPISODE).all()
            assert (episode[:, 4:] < DEMO_EPISODE).all()
            assert (episode == episode[:1]).all()
            now = t[2]
            assert torch.equal(t, torch.stack([(now - 2).clamp(min=0), (now - 1).clamp(min=0), now, now + 1]))
            taken = [action_of(*pair) for pair in zip(episode[2].tolist(), now.tolist(), strict=True)]
            assert batch.action[2, :, 0].tolist() == taken
            assert torch.equal(batch.is_first, t == 0)
            seen |= set(now.tolist())
        if data.frames == config.training.frames:
            break
    assert seen == set(range(STEPS - 1))  # the last one's next frame is not kept
    data.close()


def test_demonstrations_and_replay_are_drawn_at_openings_as_often_as_asked(config: Config) -> None:
    config.training.pretrain_updates, config.training.opening_share = 0, 0.5
    config.training.batch_size, config.training.demo_fraction = 800, 0.5
    data = module(config)
    batch = next(data.epoch())
    starts = STEPS - config.training.batch_length + 1
    for first in batch.is_first[0].float().split(400):  # demonstrations, then the agent's
        assert float(first.mean()) == pytest.approx(0.5 + 0.5 / starts, abs=0.1)  # standard deviation 0.025
    data.close()


class EndingEnv(CountingEnv):
    """Its fifth action ends the task."""

    def _advance(self, action: np.ndarray) -> Outcome:
        return Outcome(reward=0.0, terminated=self.time == 4)


@pytest.mark.parametrize("learner", ["vmil", "sqil_drq"])
def test_only_who_sees_stacks_is_shown_the_action_that_ended_an_episode_as_a_transition(
    config: Config, decode: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch, learner: LearnerKind
) -> None:
    """Where nothing follows, the last frame stands for what does; a model of the world would take that for a step."""
    monkeypatch.setattr("vmil.data.parallel.make_env", EndingEnv)
    config.learner, config.training.batch_size, config.training.pretrain_updates = learner, 80, 0
    config.training.batch_length = 4
    settle(config)
    data = module(config)
    batch = next(data.epoch())
    _, t = decode(batch.image[:, batch.num_experts :]).unbind(-1)
    ended = batch.terminated[-2, batch.num_experts :]
    assert bool(ended.any()) is (learner == "sqil_drq")
    assert torch.equal(t[-1] == t[-2], ended)
    data.close()


def test_true_reward_without_an_expert(config: Config) -> None:
    config.learner, config.debug.use_ground_truth_reward = "sqil_drq", True
    settle(config)
    data = module(config)
    batch = next(data.epoch())
    assert batch.num_experts == 0
    assert batch.reward is not None
    assert (batch.image[..., 0] < DEMO_EPISODE).all()
    data.close()


def test_behaviour_cloning_collects_nothing_and_its_clock_goes_on(config: Config) -> None:
    config.learner = "bc"
    settle(config)
    data, frames = module(config), []
    for _ in range(data.pace.epochs):
        batches = list(data.train_dataloader())
        assert [(batch.num_experts, len(batch.image)) for batch in batches] == [(8, 3)] * 3
        frames.append(data.frames)
    assert frames == [80, 160, 240, 320, 400]
    assert data.replay.episodes == 0
    assert "collect/return" not in data.metrics
    data.close()


def test_reward_is_absent_unless_asked_for(config: Config) -> None:
    data = module(config)
    assert next(data.epoch()).reward is None
    data.close()
    config.debug.use_ground_truth_reward = True
    data = module(config)
    reward = next(data.epoch()).reward
    assert reward is not None
    assert (reward == 0.5).all()  # what the demonstrations say
    data.close()


def test_proprio_is_in_the_batch_if_the_task_has_it(config: Config) -> None:
    config.env.proprio = True
    data = module(config)
    batch = next(data.epoch())
    assert batch.proprio is not None
    assert torch.equal(batch.proprio[..., 0], batch.image[..., 0, 0, 0].float())
    data.close()


def test_seed_frames_are_random_and_then_the_policy_acts(config: Config) -> None:
    config.training.seed_frames, config.training.pretrain_updates = 80, 0
    data = module(config)
    policy = CountingPolicy()
    data.set_policy(policy)
    assert len(list(data.train_dataloader())) == config.training.updates_per_epoch
    assert policy.opened == [2, 3]  # episodes 0 and 1 are random; no batch is drawn before the policy's own
    data.close()


def test_on_collect_counts_the_frames(config: Config) -> None:
    config.training.pretrain_updates = 0
    data, frames = module(config), []
    data.on_collect = frames.append
    list(data.train_dataloader())
    list(data.train_dataloader())
    assert frames == list(range(REPEAT, 161, REPEAT))
    data.close()


def test_short_demonstrations_are_refused_before_training(config: Config) -> None:
    config.training.batch_length = STEPS + 1
    with pytest.raises(UserError, match=r"fewer than the 21 that training\.batch_length=21 needs"):
        module(config)
