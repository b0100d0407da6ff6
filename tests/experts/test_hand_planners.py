"""The expert that plans baoding: its model, its cost by hand, its episodes, and one short piece of real planning."""

import hashlib
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import vmil
from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.config.schema_planner import Dynamics, LearnedConfig, PlannerConfig
from vmil.data.demos import read_recording
from vmil.envs.baoding import BaodingEnv, Hand
from vmil.envs.baoding_task import TOLERANCE, dropped, palm_pose, targets, tracking_errors
from vmil.errors import UserError
from vmil.experts.expert import FINAL_SEED
from vmil.experts.hand_expert import measure_expert
from vmil.experts.hand_learned import BaodingTask, observe
from vmil.experts.hand_model import HandModel, cost
from vmil.experts.hand_planners import (
    LearnedPlanner,
    PlannedExpert,
    SimulatorPlanner,
    make_planner,
    mppi_config,
    plan_settings,
)
from vmil.experts.hand_policy import PolicyPlanner

ASSETS = Path(vmil.__file__).parent / "assets" / "baoding"
SETS = {"policy": ASSETS, "planner": ASSETS / "planned"}  # whose demonstrations are shipped, and where
ENV = EnvConfig(**{**vars(load_config(["env=baoding"]).env), "episode_frames": 4})
TINY = PlannerConfig(horizon=2, samples=4, timestep=0.01, threads=1)
LEARNED = LearnedConfig(rounds=2, rollouts=2, updates=1, hidden=8, batch_size=8)


# ---- the model and its cost ---------------------------------------------------------------


def test_the_cost_by_hand():
    """Two steps, of control steps 10 and 11: on target; then 3 and 4 cm off, wrist too high, one ball lost."""
    wrist = np.array([[0.0, 0.1], [0.0, 0.2]])
    offsets = np.array([[[0.0, 0.0], [0.0, 0.0]], [[0.03, 0.0], [0.0, 0.04]]])
    origin, axes = palm_pose(wrist)
    plane = targets(np.array([10.0, 11.0])) + offsets
    local = np.stack([plane[..., 0], np.full((2, 2), -0.039), plane[..., 1]], -1)
    balls = origin[:, None] + np.einsum("tij,tnj->tni", axes, local)
    assert cost(wrist[None], balls[None], first_step=10) == pytest.approx([5 * 0.07 + 10.0])
    balls[1, 0, 2] = 0.05
    lost = cost(wrist, balls, first_step=10)
    assert lost > 500.0
    assert cost(wrist, balls, first_step=11) != pytest.approx(lost)


def test_the_simulator_foresees_what_a_hand_does():
    """With the light model in the hand's place, one control step is the same to the last bit."""
    simulator = HandModel(0.0025, threads=1)
    hand = Hand()
    hand.begin(np.zeros((2, 3)))
    hand.model.opt.noslip_iterations = 0
    hand.model.dof_frictionloss[:] = 0.0
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 2, 24))
    start = hand.state()
    wrist, balls = simulator.foresee(start, actions)
    assert (wrist.shape, balls.shape) == ((3, 2, 2), (3, 2, 2, 3))
    for sequence, angles, centres in zip(actions, wrist, balls, strict=True):
        hand.restore(start)
        for action, angle, centre in zip(sequence, angles, centres, strict=True):
            hand.control(action)
            assert hand.joints[:2] == pytest.approx(angle, abs=1e-6)
            assert hand.balls == pytest.approx(centre, abs=1e-6)
    simulator.close()


def test_a_future_that_diverges_has_lost_both_balls():
    simulator, hand = HandModel(0.01, threads=1), Hand()
    hand.begin(np.zeros((2, 3)))
    start = hand.state()
    start[0] = 1.5  # seconds: the clock of an episode that has run for a while
    still = np.zeros((1, 3, 24))
    assert not dropped(simulator.foresee(start, still)[1]).any()
    start[1 + 38] = 1e12  # rad/s: beyond what MuJoCo simulates
    assert dropped(simulator.foresee(start, still)[1]).all()
    simulator.close()


def test_threads_and_neighbours_change_nothing():
    hand = Hand()
    hand.begin(np.zeros((2, 3)))
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2, 24))
    one, two = HandModel(0.01, threads=1), HandModel(0.01, threads=2)
    together = one.foresee(hand.state(), actions)[1]
    assert np.array_equal(two.foresee(hand.state(), actions)[1], together)
    assert np.array_equal(one.foresee(hand.state(), actions[3:4])[1][0], together[3])
    one.close()
    two.close()


def test_a_timestep_must_divide_a_control_step():
    with pytest.raises(UserError, match=r"timestep=0\.003 does not divide a control step of 0.1 s"):
        HandModel(0.003, threads=1)


# ---- the expert ---------------------------------------------------------------------------


class Stub:
    """A planner that repeats one action."""

    curve = ()

    def __init__(self, action: float = 0.0, settings=None, weights=None):
        self.action, self.seeds, self.closed = action, [], False
        self.settings, self.weights = settings or plan_settings(TINY, LEARNED), weights

    def begin(self, seed):
        self.seeds.append(seed)

    def act(self, env):
        return np.full(24, self.action)

    def close(self):
        self.closed = True


def expert(tmp_path: Path, planner=None, give_up=False, env=ENV) -> PlannedExpert:
    return PlannedExpert(env, planner or Stub(), tmp_path / "expert.json", give_up)


def play(expert: PlannedExpert, seed: int) -> list[np.ndarray]:
    expert.begin(seed)
    states = [expert.state()]
    while not expert.over:
        expert.execute(expert.decide())
        states.append(expert.state())
    return states


def test_an_episode_is_decided_by_its_seed(tmp_path):
    planner = Stub(0.1)
    ours = expert(tmp_path, planner)
    first, second, again = (play(ours, seed) for seed in (0, 1, 0))
    assert len(first) == 5
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert planner.seeds[0] == planner.seeds[2] != planner.seeds[1]
    assert set(ours.scores()) == set(BaodingEnv.SCORES)
    ours.close()
    assert planner.closed


def test_what_cannot_succeed_any_more_is_given_up(tmp_path):
    """Of four control steps one may be off target; at the start both balls are: two steps and it is over."""
    ours = expert(tmp_path, give_up=True)
    assert len(play(ours, 0)) == 3
    assert ours.scores() == {"success": 0.0}
    patient = expert(tmp_path)
    assert len(play(patient, 0)) == 5
    assert patient.scores()["success"] == 0.0
    ours.close()
    patient.close()


def test_a_restored_state_goes_on_to_the_last_bit(tmp_path):
    ours = expert(tmp_path, Stub(0.2))
    states = play(ours, 0)
    ours.restore(states[2])
    ours.execute(ours.decide())
    assert np.array_equal(ours.state(), states[3])
    ours.close()


def test_a_measurement_goes_on_where_it_was(tmp_path):
    path, played = tmp_path / "made" / "expert.json", []
    ours = expert(tmp_path)
    begin = ours.begin
    ours.begin = lambda seed: (played.append(seed), begin(seed))  # type: ignore[method-assign,assignment]
    measure_expert(ours, path, 1)
    result = measure_expert(ours, path, 2)
    assert played == [FINAL_SEED, FINAL_SEED + 1]
    assert (result.episodes, result.extras["success"]) == (2, 0.0)
    assert len(json.loads(path.read_text())["seconds"]) == 2
    ours.settings = {**ours.settings, "samples": 5}
    with pytest.raises(UserError, match="measured with other settings"):
        measure_expert(ours, path, 3)
    ours.close()


def test_a_planner_is_known_by_its_settings_and_its_weights(tmp_path):
    def identity(settings, weights=b""):
        path = tmp_path / "weights"
        path.write_bytes(weights)
        ours = expert(tmp_path, Stub(settings=settings, weights=path if weights else None))
        ours.close()
        assert ours.files() == ([path] if weights else [])
        return ours.identity()

    simulator = plan_settings(TINY, LEARNED)
    assert identity(simulator) == identity(dict(reversed(simulator.items())))
    assert len({identity(simulator), identity({**simulator, "samples": 5}), identity(simulator, b"1")}) == 3


def test_the_card_tells_settings_and_measurement(tmp_path):
    ours = expert(tmp_path)
    assert ours.files() == []
    measure_expert(ours, tmp_path / "expert.json", 1)
    text = "\n".join(ours.about())
    assert ours.files() == [tmp_path / "expert.json"]
    assert "horizon=2 samples=4" in text
    assert "success 0.0 %" in text
    ours.close()


# ---- the planners -------------------------------------------------------------------------


def test_a_short_piece_of_planning_is_better_than_none():
    """Six control steps through the simulator bring the balls nearer to their targets than holding the start pose."""
    config = PlannerConfig(horizon=3, samples=24, timestep=0.005, threads=1)
    env = BaodingEnv(EnvConfig(**{**vars(ENV), "episode_frames": 6}), seed=0)

    def errors(act):
        env.set_episode(0)
        env.open_episode()
        while not env.over:
            env.advance(act(env))
        return env.last_scores["tracking_error"]

    planner = SimulatorPlanner(config)
    idle = errors(lambda env: np.zeros(24))
    planned = errors(planner.act)
    planner.begin(0)
    assert errors(planner.act) == planned
    planner.close()
    env.close()
    assert planned < idle - 0.005


def test_the_learned_planner_is_trained_kept_and_taken_as_it_is(tmp_path):
    config = PlannerConfig(**{**vars(TINY), "dynamics": "learned"})
    with pytest.raises(UserError, match="there is no ensemble"):
        make_planner(ENV, config, LEARNED, 0, tmp_path, train=False)
    trained = make_planner(ENV, config, LEARNED, 0, tmp_path, train=True)
    assert isinstance(trained, LearnedPlanner)
    assert [line["round"] for line in trained.pddm.curve] == [0.0, 1.0]
    known = make_planner(ENV, config, LEARNED, 0, tmp_path, train=False)
    env = BaodingEnv(ENV, seed=0)
    env.open_episode()
    for planner in (trained, known):
        planner.begin(3)
    action = trained.act(env)
    assert np.array_equal(action, known.act(env))
    assert action.shape == (24,)
    for part in (trained, known, env):
        part.close()


def test_pddm_sees_joints_balls_and_their_speeds_and_pays_as_the_simulator_does():
    task = BaodingTask(BaodingEnv(ENV, seed=0))
    seen = task.begin(3)
    hand = task.env.hand
    assert seen.shape == (task.observation_size,)
    assert np.array_equal(seen[:24], hand.joints)
    assert np.array_equal(seen[24:30].reshape(2, 3), hand.balls)
    after, over = task.step(np.zeros(24))
    assert after[32] == hand.data.qvel[26] < 0.0  # the first ball falls onto the palm
    assert not over
    futures = np.stack([seen, after])
    balls = futures[:, 24:30].reshape(2, 2, 3)
    assert task.cost(futures, 1) == pytest.approx(cost(futures[:, :2], balls, 1))
    assert np.array_equal(observe(task.env), after)
    hand.data.qpos[26] = 0.01
    assert task.step(np.zeros(24))[1]
    assert task.scores()["success"] == 0.0
    task.close()


def test_settings_leave_out_what_changes_nothing():
    simulator, learned = PlannerConfig(), PlannerConfig(dynamics="learned")
    assert "threads" not in plan_settings(simulator, LEARNED)
    assert "hidden" not in plan_settings(simulator, LEARNED)
    assert plan_settings(learned, LEARNED)["hidden"] == 8


def test_an_ensemble_is_planned_through_more_cautiously():
    simulator, learned = (plan_settings(PlannerConfig(dynamics=kind), LEARNED) for kind in get_args(Dynamics))
    for name in ("kappa", "sigma", "fine_sigma"):
        assert 0 < learned[name] < simulator[name]
    given = PlannerConfig(dynamics="learned", sigma=0.9)
    assert plan_settings(given, LEARNED)["sigma"] == mppi_config(given).sigma == 0.9
    assert mppi_config(given).fine_sigma == learned["fine_sigma"]


def test_no_knob_of_the_planner_is_dead():
    """Every setting is read somewhere outside config/."""
    source = "\n".join(path.read_text() for path in (Path(vmil.__file__).parent / "experts").glob("*.py"))
    for schema in (PlannerConfig, LearnedConfig):
        for item in fields(schema):
            assert re.search(rf"\b(config|learned|options)\.{item.name}\b", source), item.name


# ---- what is shipped ----------------------------------------------------------------------


def shipped(who: str) -> list[Path]:
    return sorted((SETS[who] / "demos").glob("demo_*.npz"))


@pytest.mark.parametrize("who", SETS)
def test_the_shipped_demonstrations_succeed_and_step_by_step_are_what_they_say(who, tmp_path):
    assert len(shipped(who)) == 25
    assert sum(path.stat().st_size for path in shipped(who)) < 5_000_000
    ours, starts = expert(tmp_path), set()
    for path in shipped(who):
        recording = read_recording(path)
        assert (recording.physics.shape, recording.action.shape) == ((101, 111), (100, 24))
        assert recording.meta["expert"] == {"policy": "ppo", "planner": "planned"}[who]
        assert recording.meta["scores"]["success"] == 1.0
        assert recording.reward.sum() >= 75
        errors = tracking_errors(recording.physics[1:, 1:3], balls_of(recording.physics[1:]), np.arange(1, 101))
        assert (errors <= TOLERANCE).all(-1).sum() == recording.reward.sum()
        starts.add(recording.physics[0, 25:28].tobytes())
    ours.begin(recording.meta["seed"])
    for t in (0, 37, 99):
        ours.restore(recording.physics[t])
        ours.execute(recording.action[t])
        assert ours.state() == pytest.approx(recording.physics[t + 1], abs=1e-3)  # another processor rounds otherwise
    ours.close()
    assert len(starts) == len(shipped(who))


@pytest.mark.parametrize("who", SETS)
def test_the_card_names_every_file_and_its_digest(who):
    card = (SETS[who] / "CARD.md").read_text()
    assert "The stored state holds the solver's warm start" in card
    others = [ASSETS / "actor.safetensors", ASSETS / "expert.json"] if who == "policy" else []
    for path in [*shipped(who), *others]:
        assert f"| {path.name} | `{hashlib.sha256(path.read_bytes()).hexdigest()}` |" in card
    assert (SETS[who] / "contact_sheet.png").is_file()


def test_the_shipped_policy_plays_an_episode_that_no_one_has_seen():
    env = BaodingEnv(load_config(["env=baoding"]).env, seed=5)
    policy = PolicyPlanner(ASSETS / "actor.safetensors")
    on_target = []
    for _ in range(3):
        env.open_episode()
        while not env.over:
            env.advance(policy.act(env))
        on_target.append(env.last_scores["on_target"])
    env.close()
    assert np.mean(on_target) > 0.6  # 0.75 and no drop is a success


def balls_of(states: np.ndarray) -> np.ndarray:
    """Centres (T, 2, 3) of the balls in physics states (T, 111): after time come 24 joints, then two poses of seven."""
    return np.stack([states[:, 25:28], states[:, 32:35]], axis=1)
