"""SAC from state: who learns, what is collected, and that a resumed run is the same run."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from vmil.config.schema_expert import ExpertConfig
from vmil.errors import UserError
from vmil.experts.actor import deterministic_policy, load_actor, make_actor_net, save_actor
from vmil.experts.sac import train_expert
from vmil.experts.sac_agent import REPLAY_KEYS, SACAgent, make_lookahead, make_state_env, updates_due
from vmil.experts.sac_expert import TrainedExpert
from vmil.experts.state_task import describe_task, load_seeded_task
from vmil.experts.suite_practice import SuitePractice

TINY = ExpertConfig(
    frames=2000, random_frames=500, eval_every=1000, eval_episodes=1, updates_per_step=0.02, batch_size=16, hidden=16
)

SHORT_PPO = {"ppo_envs": 2, "ppo_steps": 4, "ppo_batch": 8, "ppo_every": 1, "ppo_warmup": 0}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _agent(config: ExpertConfig = TINY) -> SACAgent:
    agent = SACAgent(config, "walker", "walk", seed=0)
    with torch.no_grad():
        steps = agent.env.rollout(20, agent.actor)
    agent.replay.extend(agent.lookahead(steps).select(*REPLAY_KEYS))
    return agent


def _parts(agent: SACAgent) -> dict[str, torch.Tensor]:
    names = ("actor_network_params", "qvalue_network_params", "target_qvalue_network_params", "log_alpha")
    state = {key: value for key, value in agent.loss.state_dict().items() if isinstance(value, torch.Tensor)}
    return {
        name: torch.cat([v.flatten().clone() for k, v in state.items() if k.startswith(name) and v.is_floating_point()])
        for name in names
    }


def test_two_updates_move_every_part_and_the_shared_actor() -> None:
    agent = _agent()
    before, weight = _parts(agent), next(agent.actor_net.parameters()).clone()
    for _ in range(2):
        losses = agent.update(agent.replay.sample())
    assert all(torch.isfinite(losses[key]) for key in ("loss_actor", "loss_qvalue", "loss_alpha"))
    assert all(not torch.equal(before[name], after) for name, after in _parts(agent).items())
    assert not torch.equal(
        weight, next(agent.actor_net.parameters())
    )  # the network that is saved is the one that learns


def test_target_follows_at_the_configured_rate() -> None:
    agent = _agent(dataclasses.replace(TINY, target_rate=0.25))
    old = _parts(agent)["target_qvalue_network_params"]
    agent.update(agent.replay.sample())
    new = _parts(agent)
    expected = 0.75 * old + 0.25 * new["qvalue_network_params"]
    torch.testing.assert_close(new["target_qvalue_network_params"], expected)


def test_rewards_are_summed_over_the_repeat_and_the_end_is_no_termination() -> None:
    spec = describe_task("walker", "walk", hidden=8, action_repeat=2)
    env = make_state_env(spec)
    env.set_seed(3)
    episode = env.rollout(1000)
    assert len(episode) == 500  # of 1000 frames
    assert episode["next", "truncated"][-1]
    assert not episode["next", "terminated"].any()  # the value behind the time limit still counts


def _stretch(ends: dict[int, str], steps: int = 6) -> TensorDict:
    """Steps (6,) of rewards 1, 10, 100, ... and observations 0, 1, ..., with the named ends."""
    flags = {name: torch.tensor([[ends.get(t) == name] for t in range(steps)]) for name in ("terminated", "truncated")}
    observation = torch.arange(float(steps + 1))[:, None]
    following = {"observation": observation[1:], "reward": 10.0 ** torch.arange(steps)[:, None], **flags}
    following["done"] = flags["terminated"] | flags["truncated"]
    return TensorDict({"observation": observation[:-1], "next": following}, [steps])


def test_a_lookahead_sums_discounted_rewards_up_to_the_state_it_names() -> None:
    seen = make_lookahead(dataclasses.replace(TINY, return_steps=3, discount=0.5))(_stretch({}))
    assert seen["next", "reward"][:2].flatten().tolist() == [1 + 5 + 25, 10 + 50 + 250]
    assert seen["steps_to_next_obs"].tolist() == [3, 3, 3, 3, 2, 1]  # the stretch ends there
    assert seen["next", "observation"].flatten().tolist() == [3, 4, 5, 6, 6, 6]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_a_lookahead_stops_at_an_end_and_knows_which(end: str) -> None:
    seen = make_lookahead(dataclasses.replace(TINY, return_steps=3, discount=1.0))(_stretch({3: end}))
    assert seen["next", "observation"].flatten().tolist() == [3, 4, 4, 4, 6, 6]
    assert seen["next", "reward"].flatten().tolist() == [111, 1110, 1100, 1000, 110_000, 100_000]
    reaches_the_end = [False, True, True, True, False, False]
    assert seen["next", "terminated"].flatten().tolist() == ([False] * 6 if end == "truncated" else reaches_the_end)


def test_a_lookahead_of_one_step_changes_nothing() -> None:
    plain = _stretch({2: "truncated"})
    seen = make_lookahead(TINY)(plain)
    assert all(torch.equal(seen["next", key], value) for key, value in plain["next"].items())
    assert seen["steps_to_next_obs"].tolist() == [1] * 6


def test_the_bootstrapped_value_is_discounted_by_the_steps_between() -> None:
    agent = _agent(dataclasses.replace(TINY, return_steps=3, discount=0.5))
    batch, estimator = agent.replay[:], agent.loss.value_estimator
    value = torch.full_like(batch["next", "reward"], 8.0)
    target = estimator.value_estimate(batch, next_value=value)
    ahead = 0.5 ** batch["steps_to_next_obs"][:, None]
    torch.testing.assert_close(target, batch["next", "reward"] + ahead * 8.0)


def test_the_temperature_holds_the_entropy_that_was_asked_for() -> None:
    agent = _agent(dataclasses.replace(TINY, target_entropy=-2.5))
    assert float(agent.loss.target_entropy) == -2.5 * agent.spec.action_dim


def test_reward_is_that_of_both_frames() -> None:
    spec = describe_task("walker", "walk", hidden=8, action_repeat=2)
    env, control = make_state_env(spec), load_seeded_task("walker", "walk", seed=3)
    first, action = env.reset(), env.action_spec.rand()
    control.reset()
    with control.physics.reset_context():
        control.physics.set_state(env.base_env._env.physics.get_state())
    both = [control.step(action.numpy()).reward for _ in range(2)]
    assert env.step(first.set("action", action))["next", "reward"].item() == pytest.approx(sum(both), rel=1e-5)


def test_observation_order_is_that_of_the_policy_from_numpy() -> None:
    spec = describe_task("walker", "walk", hidden=8, action_repeat=2)
    assert spec.obs_keys == ("orientations", "height", "velocity")
    env = make_state_env(spec)
    first = env.reset()
    raw = env.base_env._env.task.get_observation(env.base_env._env.physics)
    net = make_actor_net(spec)
    expected = net(first["observation"])[: spec.action_dim].tanh().detach().numpy()
    np.testing.assert_allclose(deterministic_policy(net, spec)(raw), expected, atol=1e-6)


def test_actor_file_rebuilds_the_actor(tmp_path: Path) -> None:
    spec = describe_task("walker", "walk", hidden=8, action_repeat=2)
    net = make_actor_net(spec)
    save_actor(tmp_path / "actor.safetensors", net, spec)
    again, read = load_actor(tmp_path / "actor.safetensors")
    assert read == spec
    x = torch.randn(4, spec.obs_dim)
    assert torch.equal(net(x), again(x))


def test_resumed_is_the_same_as_never_stopped(tmp_path: Path) -> None:
    score = train_expert(TINY, "walker", tmp_path / "whole", seed=1)
    train_expert(dataclasses.replace(TINY, frames=1000), "walker", tmp_path / "parts", seed=1)
    resumed = train_expert(TINY, "walker", tmp_path / "parts", seed=1)
    whole, parts = (torch.load(tmp_path / d / "checkpoint.pt", weights_only=True) for d in ("whole", "parts"))
    assert resumed == score
    assert parts["frames"] == whole["frames"] == 2000
    assert len(whole["replay"]["0"]) == 1000  # what is filled, at two frames a step
    for key, value in whole["loss"].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, parts["loss"][key]), key
    for key, value in whole["replay"].items():
        assert torch.equal(value, parts["replay"][key])
    record = json.loads((tmp_path / "parts" / "expert.json").read_text())
    assert np.mean(record["returns"]) == pytest.approx(score)
    assert [point["frames"] for point in record["curve"]] == [1000, 2000]
    with pytest.raises(UserError, match="seed 1"):
        train_expert(TINY, "walker", tmp_path / "parts", seed=2)


def test_a_resumed_expert_learns_by_the_new_settings_and_its_card_says_so(tmp_path: Path) -> None:
    train_expert(dataclasses.replace(TINY, frames=1000), "walker", tmp_path, seed=1)
    train_expert(dataclasses.replace(TINY, learning_rate=1e-5), "walker", tmp_path, seed=1)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert {group["lr"] for group in saved["optimizer"]["param_groups"]} == {1e-5}
    assert [stage["frames"] for stage in saved["stages"]] == [0, 1000]
    expert = TrainedExpert("walker", tmp_path / "actor.safetensors")
    try:
        first, *_ = expert.about()
    finally:
        expert.close()
    assert "in 2 stages" in first
    commands = re.findall(r'`make expert ENV=walker SEED=1 ARGS="([^"]*)"`', first)
    given = [dict(item.split("=") for item in command.split()) for command in commands]
    assert [each["learning_rate"] for each in given] == [str(TINY.learning_rate), "1e-05"]
    assert [each["frames"] for each in given] == ["1000", "2000"]
    assert all(each["hidden"] == str(TINY.hidden) for each in given)


def test_a_resumed_expert_holds_the_entropy_that_it_is_given() -> None:
    again = SACAgent(dataclasses.replace(TINY, target_entropy=-2.5), "walker", "walk", seed=0)
    again.load(_agent().state())
    assert float(again.loss.target_entropy) == -2.5 * again.spec.action_dim


def test_what_ppo_made_better_is_not_lost_to_more_of_sac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAC reaches 700, PPO 860; of SAC's next rounds 710 changes nothing, and 870 takes the place."""
    scores = [700.0, 860.0, 710.0, 870.0]
    monkeypatch.setattr(SuitePractice, "score", lambda self, net, episodes: [scores.pop(0)])
    monkeypatch.setattr("vmil.experts.sac._score_file", lambda path, episodes: [0.0])

    def train(frames: int, ppo_frames: int, resume: bool = True) -> tuple[bytes, dict[str, Any]]:
        config = dataclasses.replace(TINY, frames=frames, ppo_frames=ppo_frames, eval_every=200, **SHORT_PPO)
        train_expert(config, "walker", tmp_path, seed=1, resume=resume)
        record = json.loads((tmp_path / "expert.json").read_text())
        return (tmp_path / "actor.safetensors").read_bytes(), record.get("refined", {})

    best, told = train(200, ppo_frames=16)
    assert told["kept"]
    actor, told = train(400, ppo_frames=0)
    assert actor == best
    assert (told["kept"], told["config"]["ppo_frames"], len(told["curve"])) == (True, 16, 1)
    actor, told = train(600, ppo_frames=16)
    assert actor != best
    assert not told["kept"]
    scores.append(10.0)
    actor, told = train(200, ppo_frames=0, resume=False)
    assert told == {}
    assert not (tmp_path / "refine.pt").exists()


def test_target_return_stops_early(tmp_path: Path) -> None:
    train_expert(dataclasses.replace(TINY, target_return=0.1), "walker", tmp_path, seed=0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["frames"] == 1000


def test_small_bursts_lose_no_updates() -> None:
    config = dataclasses.replace(TINY, collect_frames=6, updates_per_step=0.5)  # 3 agent steps, 1.5 updates
    due = [updates_due(frames, config) for frames in range(0, 30, 6)]
    assert np.diff(due).tolist() == [1, 2, 1, 2]


def test_frames_that_do_not_divide_are_refused() -> None:
    with pytest.raises(UserError, match="multiple"):
        SACAgent(dataclasses.replace(TINY, collect_frames=300), "walker", "walk", seed=0)
