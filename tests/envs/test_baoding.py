"""The baoding task: its scene, its arithmetic by hand, its episodes and its pictures."""

import re

import numpy as np
import pytest
import torch

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.envs.baoding import PROPRIO_SIZE, SCATTER, STATE_SIZE, BaodingEnv, Hand
from vmil.envs.baoding_scene import BALL_STARTS, JOINTS, build_model, command, hand_directory, start_pose
from vmil.envs.baoding_task import dropped, in_palm, judge, palm_pose, targets, tracking_errors
from vmil.envs.factory import EnvInfo, env_info, make_env, render_states, revisit
from vmil.errors import UserError

CONFIG = load_config(["env=baoding"]).env
SHORT = EnvConfig(**{**vars(CONFIG), "episode_frames": 4})


@pytest.fixture(scope="module")
def hand():
    return Hand()


@pytest.fixture
def env():
    env = BaodingEnv(SHORT, seed=5)
    yield env
    env.close()


# ---- the scene --------------------------------------------------------------------------


def test_the_scene_is_the_hand_with_its_own_motors_and_two_free_balls(hand):
    model = hand.model
    assert [model.joint(index).name for index in range(24)] == list(JOINTS)
    assert (model.nq, model.nv, model.nu, model.nsensor, model.nmocap) == (24 + 14, 24 + 12, 24, 0, 2)
    for index, (name, (start, low, high)) in enumerate(JOINTS.items()):
        actuator = model.actuator(name)
        assert model.actuator_trnid[index, 0] == index
        assert actuator.ctrlrange.tolist() == [low, high]
        gain = 5.0 if name.startswith("WR") else 1.0
        assert (actuator.gainprm[0], actuator.biasprm[1]) == (gain, -gain)
        assert model.jnt_range[index, 0] - 0.15 < start < model.jnt_range[index, 1] + 0.15
    for ball in ("ball1", "ball2"):
        assert model.body(ball).mass.item() == pytest.approx(0.043)
        geom = model.body(ball).geomadr.item()
        assert (model.geom_size[geom, 0], model.geom_condim[geom]) == (0.028, 4)
    assert model.opt.timestep * 40 == pytest.approx(0.1)


def test_markers_touch_nothing(hand):
    for marker in ("target1", "target2"):
        geom = hand.model.body(marker).geomadr.item()
        assert (hand.model.geom_contype[geom], hand.model.geom_conaffinity[geom]) == (0, 0)


def test_the_light_model_is_the_same_hand_without_dry_friction(hand):
    light = build_model(0.005, light=True)
    assert (light.opt.timestep, light.opt.noslip_iterations) == (0.005, 0)
    assert light.dof_frictionloss.max() == 0.0 < hand.model.dof_frictionloss.max()
    assert np.array_equal(light.body_mass, hand.model.body_mass)


def test_actions_are_nine_tenths_of_the_way_to_either_end():
    # WRJ1 starts at 0.0126 in [-0.52, 0.17]: +1 is 0.0126 + 0.9 · 0.1574, -1 is 0.0126 - 0.9 · 0.5326.
    assert np.array_equal(command(np.zeros(24)), start_pose())
    assert command(np.ones(24))[0] == pytest.approx(0.15426)
    assert command(-np.ones(24))[0] == pytest.approx(-0.46674)
    assert command(0.5 * np.ones((2, 24))).shape == (2, 24)


def test_without_the_assets_the_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install gymnasium-robotics"):
        hand_directory()


# ---- the arithmetic -----------------------------------------------------------------------


def test_targets_by_hand():
    # θ = 3π/4 and -π/4, cos = ∓0.70711, sin = ±0.70711; half a revolution later they have changed places.
    start = targets(0)
    assert start[0] == pytest.approx([0.005 - 0.02 * 0.70711, 0.055 + 0.036 * 0.70711], abs=1e-6)
    assert start[1] == pytest.approx([0.005 + 0.02 * 0.70711, 0.055 - 0.036 * 0.70711], abs=1e-6)
    assert targets(30) == pytest.approx(start[::-1])
    assert targets(60) == pytest.approx(start)
    assert targets(np.arange(3)).shape == (3, 2, 2)


def test_the_palm_is_where_the_simulator_says(hand):
    import mujoco

    for wrist in np.random.default_rng(0).uniform(-0.5, 0.15, (5, 2)):
        hand.begin(np.zeros((2, 3)))
        hand.data.qpos[:2] = wrist
        mujoco.mj_kinematics(hand.model, hand.data)
        origin, axes = palm_pose(wrist)
        assert origin == pytest.approx(hand.data.body("palm").xpos)
        assert axes == pytest.approx(hand.data.body("palm").xmat.reshape(3, 3))


def test_a_point_goes_into_the_palm_and_back_in_batches():
    wrist, points = np.random.default_rng(0).normal(size=(4, 3, 2)), np.random.default_rng(1).normal(size=(4, 3, 2, 3))
    origin, axes = palm_pose(wrist)
    local = in_palm(wrist, points)
    back = origin[..., None, :] + np.einsum("...ij,...nj->...ni", axes, local)
    assert back == pytest.approx(points)


def test_errors_are_distances_in_the_plane():
    wrist = np.array([0.05, -0.3])
    origin, axes = palm_pose(wrist)
    (x0, z0), (x1, z1) = targets(7)
    balls = np.stack([origin + axes @ (x0 + 0.03, -0.04, z0 - 0.04), origin + axes @ (x1, -0.5, z1)])
    assert tracking_errors(wrist, balls, 7) == pytest.approx([0.05, 0.0])


def test_a_ball_is_dropped_below_six_centimetres():
    balls = np.array([[[0, 0, 0.17], [0, 0, 0.061]], [[0, 0, 0.17], [0, 0, 0.059]], [[0, 0, 0.0], [0, 0, 0.17]]])
    assert dropped(balls).tolist() == [False, True, True]


def test_success_by_hand():
    near, far = [0.024, 0.001], [0.026, 0.001]
    held = np.zeros(100, bool)
    good = judge(np.array([near] * 75 + [far] * 25), held, limit=100)
    assert good.success
    assert (good.on_target, good.steps_to_drop) == (0.75, 100)
    assert good.error == pytest.approx((0.75 * 0.024 + 0.25 * 0.026 + 0.001) / 2)
    assert not judge(np.array([near] * 74 + [far] * 26), held, limit=100).success
    assert not judge(np.array([near] * 99), held[:99], limit=100).success  # too short


def test_after_a_drop_nothing_counts():
    errors = np.full((100, 2), 0.01)
    errors[80:] = 9.0
    drops = np.arange(100) >= 80
    judged = judge(errors, drops, limit=100)
    assert (judged.success, judged.on_target, judged.steps_to_drop) == (False, 0.8, 80)
    assert judged.error == pytest.approx(0.01)
    assert judge(errors, np.ones(100, bool), limit=100).error == pytest.approx(0.01)  # of the first step: no NaN


# ---- episodes -----------------------------------------------------------------------------


def test_sizes_are_known_without_an_environment():
    assert env_info(CONFIG) == EnvInfo(24, 24, 64, 100, 1, 10.0)


def test_episodes_derive_from_seed_and_index(env):
    def start(episode):
        env.set_episode(episode)
        env.open_episode()
        return env.hand.balls

    first, second = start(0), start(1)
    assert not np.array_equal(first, second)
    assert np.abs(first - np.array(BALL_STARTS)).max() <= SCATTER
    assert np.array_equal(start(0), first)
    other = BaodingEnv(SHORT, seed=6)
    other.open_episode()
    assert not np.array_equal(other.hand.balls, first)


def test_a_drop_does_not_end_an_episode_and_counts_for_good(env):
    env.open_episode()
    env.advance(np.zeros(24))
    env.hand.data.qpos[26] = 0.02  # the first ball is put under the hand
    env.advance(np.zeros(24))
    assert env.lost
    env.hand.data.qpos[26] = 0.19  # and back
    outcome = env.advance(np.zeros(24))
    assert env.lost
    assert (outcome.reward, outcome.terminated) == (0.0, False)
    env.advance(np.zeros(24))
    assert env.over
    assert set(env.last_scores) == set(BaodingEnv.SCORES)
    assert (env.last_scores["success"], env.last_scores["steps_to_drop"]) == (0.0, 1.0)
    env.open_episode()
    assert not env.lost


def test_the_reward_counts_steps_on_target(env, monkeypatch):
    errors = iter([[0.01, 0.02], [0.01, 0.03], [0.02, 0.02], [0.0, 0.0]])
    monkeypatch.setattr("vmil.envs.baoding.tracking_errors", lambda *args: np.array(next(errors)))
    env.open_episode()
    assert [env.advance(np.zeros(24)).reward for _ in range(4)] == [1.0, 0.0, 1.0, 1.0]
    assert env.last_scores["success"] == 1.0  # three of four is 75 %
    assert env.last_scores["tracking_error"] == pytest.approx(0.11 / 8)


def test_a_simulation_that_blows_up_is_a_drop_and_no_crash(env):
    env.open_episode()
    env.hand.data.qvel[0] = 1e12
    assert env.advance(np.zeros(24)).reward == 0.0
    assert env.lost
    assert env.diverged
    assert np.isfinite(env.physics_state()).all()


def test_a_restored_state_goes_on_to_the_last_bit(hand):
    random = np.random.default_rng(0)
    actions = random.uniform(-0.5, 0.5, (6, 24))
    hand.begin(np.zeros((2, 3)))
    states = []
    for action in actions:
        assert hand.control(action)
        states.append(hand.state())
    hand.restore(states[2])
    for action in actions[3:]:
        hand.control(action)
    assert np.array_equal(hand.state(), states[-1])


# ---- pictures -----------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["fast", "standard"])
def test_recorded_states_are_drawn_as_they_were_seen(profile):
    config = EnvConfig(**{**vars(SHORT), "render_profile": profile})
    env = make_env(config, 0)
    step = env.reset()
    seen, states = [step], [env.physics_state()]
    for _ in range(2):
        seen.append(env.step(seen[-1].set("action", torch.full((24,), 0.3)))["next"])
        states.append(env.physics_state())
    env.close()
    images, joints = revisit(config, np.stack(states), np.full((2, 24), 0.3))
    assert np.array_equal(render_states(config, np.stack(states)), images)
    assert np.array_equal(images, torch.stack([each["image"] for each in seen]).numpy())
    assert joints is not None
    assert joints.shape == (3, PROPRIO_SIZE)
    assert np.array_equal(joints, torch.stack([each["proprio"] for each in seen]).numpy())
    assert joints[0] == pytest.approx(start_pose(), abs=1e-6)


def test_hand_balls_and_targets_are_in_the_picture_the_right_way_up():
    env = make_env(CONFIG, 0)
    image = env.reset()["image"].numpy().astype(int)
    env.close()
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    ball1 = (red > 120) & (green < 60) & (blue < 60)
    ball2 = (blue > 120) & (red < 60) & (green < 90)
    target1 = (red > 150) & (green > 90) & (green < red - 40) & (blue < 70)
    target2 = (blue > 150) & (green > 150) & (red < 110)
    skin = (red > 150) & (green > 120) & (blue > 80)
    for part, least in ((ball1, 60), (ball2, 60), (target1, 4), (target2, 4), (skin, 150)):
        assert part.sum() >= least
    rows, columns = np.indices(ball1.shape)
    assert columns[ball1].mean() < columns[ball2].mean()  # x grows to the right: the first ball is at -0.029
    assert rows[ball1].mean() < rows[skin].mean()  # the fingers, where the balls lie, are above the wrist


def test_states_of_another_task_are_refused():
    with pytest.raises(UserError, match=re.escape(f"(any, {STATE_SIZE}) expected")):
        render_states(CONFIG, np.zeros((2, 18)))


def test_a_camera_that_does_not_exist_is_named():
    with pytest.raises(UserError, match=r"env\.camera=5 does not exist in baoding: it has above$"):
        BaodingEnv(EnvConfig(**{**vars(SHORT), "camera": "5"}), 0)
