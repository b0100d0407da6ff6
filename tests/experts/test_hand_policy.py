"""Baoding's policy expert: what it sees, what pays, where episodes begin and end, and a short piece of its training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.config.schema_ppo import HandPolicyConfig
from vmil.envs.baoding import BaodingEnv, Hand
from vmil.envs.baoding_task import in_palm, targets
from vmil.errors import UserError
from vmil.experts.actor import load_actor, make_actor_net, save_actor
from vmil.experts.hand_expert import measure_expert
from vmil.experts.hand_policy import PolicyExpert, PolicyPlanner, reference_states, still_net, train_hand_policy
from vmil.experts.hand_practice import (
    OBSERVATION_SIZE,
    HandPractice,
    HandSimulators,
    hand_spec,
    observe,
    observe_hand,
    tracking_reward,
)
from vmil.experts.ppo_agent import PPOAgent
from vmil.experts.rounds import Evaluation
from vmil.experts.state_task import describe_task

TINY = HandPolicyConfig(
    ppo_frames=16,
    ppo_light_frames=8,
    ppo_envs=2,
    ppo_steps=4,
    ppo_batch=4,
    ppo_every=1,
    ppo_warmup=1,
    ppo_hidden=8,
)
ENV = EnvConfig(**{**vars(load_config(["env=baoding"]).env), "episode_frames": 4})


pytestmark = pytest.mark.usefixtures("one_thread")


def _states(steps: int = 12) -> np.ndarray:
    """Physics states (T, 111) of a hand that moves a little."""
    hand, random, states = Hand(), np.random.default_rng(0), []
    hand.begin(np.zeros((2, 3)))
    for _ in range(steps):
        states.append(hand.state())
        hand.control(random.uniform(-0.2, 0.2, 24))
    return np.stack(states)


def _simulators(count: int = 2, **changed: float) -> HandSimulators:
    config = dataclasses.replace(TINY, **changed)  # type: ignore[arg-type]
    return HandSimulators(count, seed=3, light=True, reference=_states(), config=config)


# ---- what it sees, and what pays ----------------------------------------------------------


def test_it_sees_joints_balls_targets_and_the_phase() -> None:
    hand = Hand()
    hand.begin(np.zeros((2, 3)))
    hand.control(np.full(24, 0.1))
    seen = observe_hand(hand)
    assert seen.shape == (OBSERVATION_SIZE,)
    assert np.array_equal(seen[:24], hand.joints)
    assert np.array_equal(seen[24:48], hand.data.qvel[:24])
    first, second = seen[48:61], seen[61:74]
    placed = in_palm(hand.joints[:2], hand.balls)
    assert first[:3] == pytest.approx(placed[0])
    assert second[3:6] == pytest.approx(hand.ball_velocities[1])
    assert second[6:9] == pytest.approx(hand.data.qvel[33:36])
    assert first[9:11] == pytest.approx(targets(2.0)[0])  # where the step to be taken is judged
    assert first[11:13] == pytest.approx(placed[0, [0, 2]] - targets(2.0)[0])
    assert seen[74:] == pytest.approx([np.sin(2 * np.pi / 60), np.cos(2 * np.pi / 60)])


def test_half_a_revolution_later_the_balls_have_changed_names() -> None:
    """The same hand with its balls exchanged, thirty steps on, looks the same to the policy."""
    state = _states()[5]
    positions, velocities = state[1:39].copy(), state[39:75].copy()
    here = observe(positions, velocities, np.asarray(5))
    positions[24:31], positions[31:38] = positions[31:38].copy(), positions[24:31].copy()
    velocities[24:30], velocities[30:36] = velocities[30:36].copy(), velocities[24:30].copy()
    assert observe(positions, velocities, np.asarray(35)) == pytest.approx(here)
    assert observe(positions, velocities, np.asarray(5)) != pytest.approx(here)
    many = observe(np.stack([positions] * 2), np.stack([velocities] * 2), np.array([35, 5]))
    assert many[0] == pytest.approx(here)


def test_the_reward_by_hand() -> None:
    errors = np.array([[0.0, 0.0], [0.03, 0.0], [0.09, 0.09]])
    near, far = np.exp(-1), np.exp(-1 / 9)
    expected = [1.0, 0.5 * (near + 1) / 2 + 0.2 * (far + 1) / 2, 0.5 * np.exp(-9) + 0.2 * near]
    assert tracking_reward(errors) == pytest.approx(expected)


# ---- many hands ---------------------------------------------------------------------------


def test_hands_play_what_one_hand_plays() -> None:
    many = HandSimulators(2, seed=3, light=False, reference=_states(), config=dataclasses.replace(TINY, **WHOLE))
    random, single = np.random.default_rng(3), Hand()
    random.uniform(size=7)  # the first hand's start, and whether it is a recorded one
    single.begin(random.uniform(-0.003, 0.003, (2, 3)))
    assert many.observation[1] == pytest.approx(observe_hand(single), abs=1e-6)
    actions = np.random.default_rng(0).uniform(-0.2, 0.2, (3, 2, 24)).astype(np.float32)
    for taken in actions:
        following, rewards, done, _ = many.step(taken)
        single.control(taken[1])
        assert following[1] == pytest.approx(observe_hand(single), abs=1e-5)
        assert not done.any()
        assert 0.0 < rewards[1] < 1.0


WHOLE = {"ppo_reference_share": 0.0, "ppo_off_target": 1.0}


def test_episodes_begin_in_recorded_states_as_often_as_asked() -> None:
    recorded = {tuple(np.round(state[1:25], 6)) for state in _states()}
    starts = [tuple(np.round(seen[:24].astype(np.float64), 6)) for seen in _simulators(40).observation]
    share = np.mean([any(np.allclose(start, state, atol=1e-5) for state in recorded) for start in starts])
    assert 0.5 < share <= 1.0  # 0.7, and the first recorded state is the usual start
    usual = _simulators(4, ppo_reference_share=0.0).observation[:, :24]
    assert np.allclose(usual, usual[0])


@pytest.mark.parametrize(("changed", "ends"), [(WHOLE, False), ({**WHOLE, "ppo_off_target": 0.03}, True)])
def test_a_ball_far_from_its_target_ends_an_episode_for_good(changed: dict[str, float], ends: bool) -> None:
    """At the start one ball is 4 cm from its target."""
    simulators = _simulators(**changed)
    following, rewards, done, terminated = simulators.step(np.zeros((2, 24), np.float32))
    assert done.tolist() == terminated.tolist() == [ends, ends]
    assert (rewards == 0.0).all() == ends
    assert np.array_equal(following, simulators.observation) != ends  # begun anew


def test_the_time_limit_breaks_an_episode_off_and_is_no_end() -> None:
    simulators = _simulators(50, **WHOLE)
    ended = [simulators.step(np.zeros((50, 24), np.float32))[2:] for _ in range(3)]
    assert [np.flatnonzero(done).tolist() for done, _ in ended] == [[], [0], []]
    assert not np.any([terminated for _, terminated in ended])


# ---- training -----------------------------------------------------------------------------


def test_it_begins_by_holding_still() -> None:
    practice = HandPractice(TINY, _states())
    out = still_net(practice)(torch.randn(5, OBSERVATION_SIZE))
    assert out.shape == (5, 48)
    assert float(out.detach().abs().max()) < 0.1


def test_practice_is_light_first_and_real_then(monkeypatch: pytest.MonkeyPatch) -> None:
    practice = HandPractice(TINY, _states())
    early, late = (practice.simulators(1, 0, frames) for frames in (7, 8))
    assert [simulators._hands[0].model.opt.timestep for simulators in (early, late)] == [0.005, 0.0025]


def test_the_bound_on_the_standard_deviation_falls_to_its_last_value() -> None:
    practice = HandPractice(TINY, _states())
    agent = PPOAgent(TINY, practice, still_net(practice), seed=0)
    bounds = []
    for _ in range(2):
        agent.learn(agent.collect(practice.simulators(2, 0, agent.frames)))
        bounds.append(float(agent.policy.log_std.detach().exp().max()))
    assert bounds == pytest.approx([0.125, 0.05])


def test_a_score_counts_the_steps_on_target_until_a_ball_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held still, the balls lie on the palm for the whole episode."""
    practice = HandPractice(TINY, _states())
    still = still_net(practice)
    monkeypatch.setattr("vmil.experts.hand_practice.TOLERANCE", 1.0)
    assert practice.score(still, 1) == [100.0]
    monkeypatch.setattr("vmil.experts.hand_practice.TOLERANCE", 0.0)
    assert practice.score(still, 1) == [0.0]
    monkeypatch.setattr("vmil.experts.hand_practice.TOLERANCE", 1.0)
    with monkeypatch.context() as diverging:
        diverging.setattr(Hand, "control", lambda hand, action: False)
        assert practice.score(still, 1) == [0.0]
    monkeypatch.setattr("vmil.experts.hand_practice.dropped", lambda balls: np.True_)
    assert practice.score(still, 1) == [0.0]


def test_trained_measured_and_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds; stopped after one and gone on with is the same."""
    recordings = _recordings(tmp_path / "recordings")
    config = dataclasses.replace(TINY, ppo_reference=str(recordings), ppo_last_std=0.0)  # else it falls with the budget
    whole = train_hand_policy(config, tmp_path / "whole", seed=0, episodes=1)
    assert [point["frames"] for point in whole] == [8, 16]
    half = dataclasses.replace(config, ppo_frames=8)
    train_hand_policy(half, tmp_path / "parts", seed=0, episodes=1)
    parts = train_hand_policy(config, tmp_path / "parts", seed=0, episodes=1)
    assert [point | {"seconds": 0.0} for point in parts] == [point | {"seconds": 0.0} for point in whole]
    one, other = (load_actor(tmp_path / name / "actor.safetensors")[0].state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    policy = PolicyPlanner(tmp_path / "whole" / "actor.safetensors", whole, config)
    expert = PolicyExpert(ENV, policy, tmp_path / "expert.json", give_up=False)
    measure_expert(expert, tmp_path / "expert.json", 1)
    text = "\n".join(expert.about())
    assert (expert.kind, "PPO" in text, "MPPI" in text) == ("ppo", True, False)
    assert "of 16 control steps" in text
    assert json.loads((tmp_path / "expert.json").read_text())["curve"] == whole
    expert.close()
    known = PolicyExpert(ENV, PolicyPlanner(policy.weights), tmp_path / "expert.json", give_up=True)
    assert known.settings["ppo_reference"] == str(recordings)  # which the measurement tells
    assert known.about() == expert.about()
    known.close()


def test_a_policy_is_known_by_its_weights_whatever_it_was_trained_with(tmp_path: Path) -> None:
    def identity(weights: int, **trained_with: float) -> str:
        torch.manual_seed(weights)
        save_actor(tmp_path / "actor.safetensors", make_actor_net(hand_spec(8)), hand_spec(8))
        config = dataclasses.replace(TINY, **trained_with)  # type: ignore[arg-type]
        policy = PolicyPlanner(tmp_path / "actor.safetensors", trained_with=config)
        expert = PolicyExpert(ENV, policy, tmp_path / "expert.json", give_up=True)
        expert.close()
        return expert.identity()

    assert identity(1, ppo_std=0.1) == identity(1, ppo_std=0.2) != identity(2, ppo_std=0.1)


def test_a_policy_trained_further_is_measured_anew_under_other_settings_too(tmp_path: Path) -> None:
    path = tmp_path / "expert.json"
    save_actor(tmp_path / "actor.safetensors", make_actor_net(hand_spec(8)), hand_spec(8))

    def measure(frames: int, rate: float) -> dict[str, Any]:
        curve: list[Evaluation] = [{"frames": frames, "mean": 1.0, "min": 0.0, "seconds": 1.0}]
        config = dataclasses.replace(TINY, ppo_rate=rate)
        expert = PolicyExpert(ENV, PolicyPlanner(tmp_path / "actor.safetensors", curve, config), path, give_up=False)
        try:
            measure_expert(expert, path, 1)
        finally:
            expert.close()
        made: dict[str, Any] = json.loads(path.read_text())
        return made

    assert measure(8, 1e-4)["planner"]["ppo_rate"] == 1e-4
    again = measure(16, 1e-5)
    assert (again["planner"]["ppo_rate"], again["curve"][0]["frames"]) == (1e-5, 16)
    with pytest.raises(UserError, match="measured with other settings"):
        measure(16, 1e-4)


def test_a_policy_acts_on_what_it_sees_and_another_tasks_is_refused(tmp_path: Path) -> None:
    spec = hand_spec(8)
    save_actor(tmp_path / "hand.safetensors", make_actor_net(spec), spec)
    planner, env = PolicyPlanner(tmp_path / "hand.safetensors"), BaodingEnv(ENV, seed=0)
    env.open_episode()
    first = planner.act(env)
    assert first.shape == (24,)
    assert np.abs(first).max() <= 1.0
    env.advance(first)
    assert not np.array_equal(planner.act(env), first)
    env.close()
    other = describe_task("walker", "walk", hidden=8, action_repeat=2)
    save_actor(tmp_path / "walker.safetensors", make_actor_net(other), other)
    with pytest.raises(UserError, match="actor for walker-walk"):
        PolicyPlanner(tmp_path / "walker.safetensors")


def test_no_training_at_all_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, ppo_frames=0)
    with pytest.raises(UserError, match=r"^ppo_frames=0 is outside \[1, inf\)"):
        train_hand_policy(config, tmp_path / "out", seed=0, episodes=1)
    assert not (tmp_path / "out").exists()


def test_without_recordings_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no recording of baoding's states"):
        reference_states(str(tmp_path))


def test_a_tilde_leads_to_recordings_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _recordings(tmp_path / "recordings")
    assert reference_states("~/recordings").shape[1] == _states().shape[1]


def _recordings(directory: Path) -> Path:
    directory.mkdir()
    states = _states()
    meta = {"format": 1, "env": "baoding", "domain": "adroit", "task": "baoding", "action_repeat": 1}
    np.savez_compressed(
        directory / "demo_00.npz",
        physics=states,
        action=np.zeros((11, 24), np.float32),
        reward=np.zeros(11, np.float32),
        meta=np.array(json.dumps(meta)),
    )
    return directory
