"""PPO from state: what is collected, which densities are compared, who learns, and that a resumed run is the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vmil.config.schema_expert import ExpertConfig
from vmil.errors import UserError
from vmil.experts.actor import load_actor, make_actor_net
from vmil.experts.ppo_agent import ACTION, PPOAgent
from vmil.experts.sac import train_expert
from vmil.experts.sac_expert import TrainedExpert
from vmil.experts.state_task import describe_task, load_seeded_task, repeat_action
from vmil.experts.suite_practice import SuitePractice, SuiteSimulators

SPEC = describe_task("cheetah", "run", hidden=16, action_repeat=2)
TINY = ExpertConfig(
    frames=1000,
    random_frames=500,
    eval_every=1000,
    eval_episodes=1,
    updates_per_step=0.02,
    batch_size=16,
    hidden=16,
    ppo_frames=480,
    ppo_envs=4,
    ppo_steps=10,
    ppo_batch=20,
    ppo_warmup=1,
    ppo_every=3,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def _agent(config: ExpertConfig = TINY, seed: int = 0) -> PPOAgent:
    torch.manual_seed(5)
    return PPOAgent(config, SuitePractice(SPEC), make_actor_net(SPEC), seed)


def _simulators(count: int = 4, spread: int = 500) -> SuiteSimulators:
    return SuiteSimulators(SPEC, count, seed=3, spread=spread)


def test_simulators_play_what_dm_control_plays() -> None:
    many, single = _simulators(), load_seeded_task("cheetah", "run", seed=3 + 2)
    first = single.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6)).astype(np.float32)
    for taken in actions:
        flat = np.concatenate([np.ravel(value) for value in first.observation.values()])
        np.testing.assert_array_equal(many.observation[2], flat.astype(np.float32))
        following, rewards, done, _ = many.step(taken)
        first, reward = repeat_action(single, taken[2], times=2)
        assert rewards[2] == pytest.approx(reward)
        assert not done.any()
        np.testing.assert_array_equal(following, many.observation)


def test_first_episodes_end_spread_out_and_later_ones_at_the_time_limit() -> None:
    simulators, ends = _simulators(count=4, spread=8), []
    for step in range(12):
        before = simulators.observation.copy()
        following, _, done, terminated = simulators.step(np.zeros((4, 6), np.float32))
        ends.append(done)
        assert not terminated.any()  # breaking off is no end of the task: values go on behind it
        assert not np.array_equal(following, before)
        for index in np.flatnonzero(done):
            assert not np.array_equal(following[index], simulators.observation[index]), step  # begun anew
    assert [np.flatnonzero(done).tolist() for done in ends] == [[], [0], [], [1], [], [2], [], [3], [], [], [], []]


def test_what_is_collected_is_one_stretch_per_simulator() -> None:
    agent, simulators = _agent(), _simulators()
    start = simulators.observation.copy()
    played = agent.collect(simulators)
    assert played.shape == (4, 10)
    np.testing.assert_array_equal(played["observation"][:, 0], start)
    assert torch.equal(played["next", "observation"][:, :-1], played["observation"][:, 1:])
    mean, std = agent.policy(played["observation"])
    density = torch.distributions.Normal(mean, std).log_prob(played[ACTION]).sum(-1)
    torch.testing.assert_close(played[f"{ACTION}_log_prob"], density)
    noise = (played[ACTION] - mean) / TINY.ppo_std
    assert 0.8 < float(noise.std()) < 1.2  # actions are drawn, not the mode


def test_what_the_critic_learns_is_near_one_whatever_the_horizon() -> None:
    class Paying:
        """Pays 3 for every step and never ends."""

        observation = np.zeros((4, SPEC.obs_dim), np.float32)

        def step(self, action: np.ndarray) -> tuple[np.ndarray, ...]:
            nothing = np.zeros(4, bool)
            return self.observation, np.full(4, 3.0, np.float32), nothing, nothing

        def close(self) -> None:
            """Holds nothing."""

    played = _agent(dataclasses.replace(TINY, discount=0.9)).collect(Paying())
    torch.testing.assert_close(played["next", "reward"], torch.full((4, 10, 1), 0.1 * 3.0))


def test_the_bound_on_the_scatter_falls_linearly_with_the_frames() -> None:
    agent = _agent(dataclasses.replace(TINY, ppo_std=0.6, ppo_last_std=0.2, ppo_frames=960))
    for iterations, std in ((0, 0.6), (6, 0.4), (12, 0.2), (24, 0.2)):  # of 80 frames each
        agent.iterations = iterations
        torch.nn.init.zeros_(agent.policy.log_std)
        agent._bound_std()
        torch.testing.assert_close(agent.policy.log_std.exp(), torch.full((6,), std))


def test_gradients_are_clipped_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, norms = _agent(), []

    def step() -> None:
        for part in (agent.policy, agent.value):
            gradients = [weight.grad.flatten() for weight in part.parameters() if weight.grad is not None]
            norms.append(float(torch.cat(gradients).norm()))

    monkeypatch.setattr(agent.optimizer, "step", step)
    weights = [*agent.policy.parameters(), *agent.value.parameters()]
    agent._descend(1e6 * torch.stack([weight.sum() for weight in weights if weight.requires_grad]).sum())
    assert norms == pytest.approx([0.5, 0.5], rel=1e-3)


def test_advantages_look_through_a_time_limit_and_not_through_a_termination() -> None:
    agent = _agent(dataclasses.replace(TINY, discount=0.5, ppo_lambda=1.0))
    agent.value.scaling.settle(torch.randn(8, SPEC.obs_dim))
    played = agent.collect(_simulators())
    played["next", "reward"] = torch.ones(4, 10, 1)
    played["next", "done"][:, 4] = True
    played["next", "terminated"][0, 4] = True
    with torch.no_grad():
        agent.advantage(played)
        value = agent.value(played["next", "observation"])[:, 4, 0]
    expected = torch.tensor([1.0, *(1 + 0.5 * value[1:])])
    torch.testing.assert_close(played["value_target"][:, 4, 0], expected)
    torch.testing.assert_close(played["value_target"][:, 3, 0], 1 + 0.5 * expected)


def test_the_critic_learns_alone_first_and_then_the_policy_too() -> None:
    agent, simulators = _agent(), _simulators()
    before = [weight.clone() for weight in agent.policy.parameters()]
    agent.learn(agent.collect(simulators))
    assert all(torch.equal(old, new) for old, new in zip(before, agent.policy.parameters(), strict=True))
    agent.learn(agent.collect(simulators))
    assert not any(torch.equal(old, new) for old, new in zip(before, agent.policy.parameters(), strict=True))


def test_an_iteration_that_went_far_enough_leaves_the_policy_alone() -> None:
    agent = _agent(dataclasses.replace(TINY, ppo_kl=-1.0, ppo_warmup=0))
    before = [weight.clone() for weight in agent.policy.parameters()]
    agent.learn(agent.collect(_simulators()))
    assert all(torch.equal(old, new) for old, new in zip(before, agent.policy.parameters(), strict=True))


def test_better_actions_become_likelier() -> None:
    agent = _agent(dataclasses.replace(TINY, ppo_warmup=0, ppo_rate=1e-3, ppo_kl=1.0, ppo_steps=64))
    for _ in range(3):
        played = agent.collect(_simulators())
        played["next", "reward"] = played[ACTION][..., :1].tanh()  # pays for the first action
        first = agent.policy(played["observation"])[0][..., 0].mean()
        agent.learn(played)
    assert agent.policy(played["observation"])[0][..., 0].mean() > first


def test_resumed_is_the_same_as_never_stopped_and_the_card_tells_of_it(tmp_path: Path) -> None:
    whole = train_expert(TINY, "cheetah", tmp_path / "whole", seed=1)
    train_expert(dataclasses.replace(TINY, ppo_frames=240), "cheetah", tmp_path / "parts", seed=1)
    assert train_expert(TINY, "cheetah", tmp_path / "parts", seed=1) == whole
    saved = [torch.load(tmp_path / name / "refine.pt", weights_only=True) for name in ("whole", "parts")]
    for part in ("policy", "value"):
        assert all(torch.equal(value, saved[1][part][key]) for key, value in saved[0][part].items())
    record = json.loads((tmp_path / "parts" / "expert.json").read_text())
    assert [point["frames"] for point in record["refined"]["curve"]] == [240, 480]
    expert = TrainedExpert("cheetah", tmp_path / "parts" / "actor.safetensors")
    try:
        assert "PPO (`vmil.experts.ppo_agent`) went on for 480 environment frames" in "\n".join(expert.about())
    finally:
        expert.close()
    with pytest.raises(UserError, match="seed 1"):
        _agent(seed=2).load(saved[0])


def test_a_checkpoint_of_another_size_is_not_called_damaged() -> None:
    smaller = describe_task("cheetah", "run", hidden=8, action_repeat=2)
    with pytest.raises(UserError, match="another size: choose another out="):
        PPOAgent(TINY, SuitePractice(smaller), make_actor_net(smaller), seed=0).load(_agent().state())


def test_any_seed_gives_simulators_that_dm_control_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    agent, asked = _agent(seed=2**32 - 1), []
    monkeypatch.setattr(SuitePractice, "simulators", lambda self, count, seed, frames: asked.append((count, seed)))
    with pytest.raises(AttributeError):  # there is nothing to close
        agent.run_round(None)  # type: ignore[arg-type]
    [(count, seed)] = asked
    assert 0 <= seed <= 2**32 - count


def test_resumed_ppo_takes_the_rates_it_is_given() -> None:
    stopped, again = _agent(), _agent(dataclasses.replace(TINY, ppo_rate=1e-6, ppo_critic_rate=1e-5))
    stopped.learn(stopped.collect(_simulators()))
    again.load(stopped.state())
    assert [group["lr"] for group in again.optimizer.param_groups] == [1e-6, 1e-5]


def test_an_actor_that_ppo_made_worse_is_not_kept(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, ppo_frames=0)
    train_expert(config, "cheetah", tmp_path, seed=0)
    before, _ = load_actor(tmp_path / "actor.safetensors")
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    checkpoint["curve"][0]["mean"] = 2000.0  # no cheetah gets there
    torch.save(checkpoint, tmp_path / "checkpoint.pt")
    train_expert(TINY, "cheetah", tmp_path, seed=0)
    after, _ = load_actor(tmp_path / "actor.safetensors")
    assert all(torch.equal(old, new) for old, new in zip(before.parameters(), after.parameters(), strict=True))
    assert not json.loads((tmp_path / "expert.json").read_text())["refined"]["kept"]
