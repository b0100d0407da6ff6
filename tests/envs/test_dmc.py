"""dm_control through our camera: the same pictures, the same physics, and nothing that depends on what ran before."""

import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from vmil.config.schema import EnvConfig
from vmil.envs.dmc import DMCEnv, action_map
from vmil.envs.episodes import seed_from
from vmil.envs.factory import make_env, render_states, revisit
from vmil.envs.suite import load_task
from vmil.errors import UserError

ACTIONS = np.random.RandomState(0).uniform(-1, 1, (12, 6)).astype(np.float32)


@pytest.fixture
def env() -> Iterator[DMCEnv]:
    env = make_env(EnvConfig(image_size=16, episode_frames=12, proprio=True), seed=3)
    yield env
    env.close()


def _play(env: DMCEnv, actions: np.ndarray, episode: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Observations and rewards stacked over time, and the physics states (T + 1, S) that go with them."""
    env.set_episode(episode)
    td = env.reset()
    seen, states = [td], [env.physics_state()]
    for action in actions:
        td = env.step(td.set("action", torch.from_numpy(action)))["next"]
        seen.append(td)
        states.append(env.physics_state())
    keys = [key for key in ("image", "proprio") if key in list(seen[0].keys())]
    stacked = {key: torch.stack([s[key] for s in seen]).numpy() for key in keys}
    stacked["reward"] = torch.stack([s["reward"] for s in seen[1:]]).numpy()
    return stacked, np.stack(states)


def test_specs(env: DMCEnv) -> None:
    check_env_specs(env)


@pytest.mark.parametrize("name", ["walker", "cheetah"])
def test_standard_profile_is_dm_controls_own_picture(name: str) -> None:
    env = make_env(EnvConfig(name=name, render_profile="standard"), seed=3)
    ours, _ = _play(env, ACTIONS[:2])
    env.close()
    control = load_task(*{"walker": ("walker", "walk"), "cheetah": ("cheetah", "run")}[name])
    control.task.random.seed(seed_from(3, 0))
    control.reset()
    theirs = [control.physics.render(64, 64, camera_id=0)]
    for action in ACTIONS[:2]:
        control.step(action)
        control.step(action)
        theirs.append(control.physics.render(64, 64, camera_id=0))
    control.physics.free()
    assert (ours["image"] == np.stack(theirs)).all()
    assert (theirs[0] != theirs[2]).any()


@pytest.mark.parametrize("profile", ["fast", "standard"])
def test_recorded_states_give_the_pictures_that_were_seen(profile: str) -> None:
    config = EnvConfig(render_profile=profile, proprio=True, image_size=48)
    env = make_env(config, seed=0)
    seen, states = _play(env, ACTIONS, episode=7)
    env.close()
    assert (render_states(config, states) == seen["image"]).all()
    images, vectors = revisit(config, states, ACTIONS)
    assert (images == seen["image"]).all()
    assert (vectors == seen["proprio"]).all()
    assert revisit(replace(config, proprio=False), states[:1], ACTIONS[:0])[1] is None
    assert len(np.unique(seen["image"].reshape(len(states), -1), axis=0)) == len(states)


def test_forces_are_what_was_felt_on_the_way() -> None:
    config = EnvConfig(name="dmc:hopper-stand", proprio=True, image_size=16)
    env = make_env(config, seed=0)
    actions = np.repeat(np.sign(ACTIONS[:, :4]), 3, axis=0)
    seen, states = _play(env, actions)
    env.close()
    images, vectors = revisit(config, states, actions)
    assert (seen["proprio"][:, 13:] > 0).any()  # it touches the ground
    assert (vectors == seen["proprio"]).all()
    assert (images == seen["image"]).all()
    assert (render_states(config, states) == images).all()  # for which no action is needed
    with pytest.raises(UserError, match=r"^dmc:hopper-stand observes forces, .* actions do not lead from state to"):
        revisit(config, states, -actions)


def test_a_step_from_a_restored_state_is_the_step_that_was_recorded_and_needs_no_camera(env: DMCEnv) -> None:
    _, states = _play(env, ACTIONS[:6])
    assert env.over
    fresh = make_env(env.config, seed=3)
    assert isinstance(fresh, DMCEnv)
    for other in (env, fresh):  # after an episode's end, and before any
        other.restore(states[2])
        other.advance(ACTIONS[2])
        assert np.abs(other.physics_state() - states[3]).max() < 1e-9
        other.restore(states[2])
        other.advance(ACTIONS[3])
        assert np.abs(other.physics_state() - states[3]).max() > 1e-4
    assert not fresh._renderer._opened
    fresh.close()


def test_a_state_that_the_simulator_refuses_is_one_sentence(env: DMCEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    from dm_control.rl.control import PhysicsError  # imported once OpenGL is chosen

    def refuse() -> None:
        raise PhysicsError("mjWARN_CNSTRFULL")

    monkeypatch.setattr(env._control.physics, "after_reset", refuse)
    with pytest.raises(UserError, match=r"^walker cannot go on from this state: mjWARN_CNSTRFULL$"):
        env.restore(np.zeros(18))


def test_profiles_differ() -> None:
    states = load_task("walker", "walk").physics.get_state()[None]
    pictures = [render_states(EnvConfig(render_profile=profile), states) for profile in ("fast", "standard")]
    assert (pictures[0] != pictures[1]).any()


def test_episodes_depend_on_seed_and_index_alone(env: DMCEnv) -> None:
    first, states = _play(env, ACTIONS[:3], episode=5)
    _play(env, ACTIONS[3:6], episode=0)
    again, states_again = _play(env, ACTIONS[:3], episode=5)
    assert (states == states_again).all()
    assert all((first[key] == again[key]).all() for key in first)
    following = env.reset()
    assert env.episode == 6
    assert (following["proprio"].numpy() != first["proprio"][0]).any()
    other = make_env(env.config, seed=4)
    _, other_states = _play(other, ACTIONS[:3], episode=5)
    other.close()
    assert (other_states[0] != states[0]).any()
    env.set_seed(4)
    _, reseeded = _play(env, ACTIONS[:3], episode=5)
    assert (reseeded == other_states).all()


def test_environments_in_one_process_do_not_see_each_other(env: DMCEnv) -> None:
    alone, _ = _play(env, ACTIONS[:3])
    fleet = [make_env(env.config, seed=3) for _ in range(5)]
    tds = [member.reset() for member in fleet]
    for time, action in enumerate(ACTIONS[:3]):
        tds = [e.step(td.set("action", torch.from_numpy(action)))["next"] for e, td in zip(fleet, tds, strict=True)]
        assert all((td["image"].numpy() == alone["image"][time + 1]).all() for td in tds)
        fleet.pop().close()
        tds.pop()
    for member in fleet:
        member.close()
    assert (_play(env, ACTIONS[:3])[0]["image"] == alone["image"]).all()


def test_action_is_repeated_and_rewards_are_summed(env: DMCEnv) -> None:
    seen, states = _play(env, ACTIONS[:2])
    control = load_task("walker", "walk")
    control.task.random.seed(seed_from(3, 0))
    control.reset()
    for time, action in enumerate(ACTIONS[:2]):
        reward = control.step(action).reward + control.step(action).reward
        assert seen["reward"][time, 0] == np.float32(reward)
        assert (states[time + 1] == control.physics.get_state()).all()
    control.physics.free()


def test_actions_are_clipped(env: DMCEnv) -> None:
    _, beyond = _play(env, 5 * np.sign(ACTIONS[:2]))
    _, at_bounds = _play(env, np.sign(ACTIONS[:2]))
    assert (beyond == at_bounds).all()


def test_actions_are_mapped_to_the_tasks_range() -> None:
    spec = SimpleNamespace(minimum=np.array([-1.0, 0.0, -4.0, -1e10]), maximum=np.array([1.0, 10.0, 2.0, 1e10]))
    centre, half = action_map(SimpleNamespace(action_spec=lambda: spec))
    assert (centre - half).tolist() == [-1, 0, -4, -1]
    assert (centre + half).tolist() == [1, 10, 2, 1]
    assert centre.tolist() == [0, 5, -1, 0]


def test_time_limit_truncates(env: DMCEnv) -> None:
    td = env.reset()
    for _ in range(6):
        assert not td["done"]
        td = env.rand_step(td)["next"]
    assert td["done"]
    assert td["truncated"]
    assert not td["terminated"]


def test_config_alone_limits_time() -> None:
    env = make_env(EnvConfig(image_size=8, episode_frames=2040, action_repeat=20), seed=0)  # walker's own limit: 1000
    assert env.rollout(1000).shape == (102,)
    env.close()


def test_task_that_ends_early_terminates(env: DMCEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env._control.task, "get_termination", lambda physics: 0.0)
    before = env.reset()
    td = env.rand_step(before)["next"]
    assert td["done"]
    assert td["terminated"]
    assert not td["truncated"]
    assert env._control._step_count == 1  # the action was not repeated into a new episode


def test_diverged_physics_ends_the_episode_with_the_last_good_picture(env: DMCEnv, caplog) -> None:
    td = env.reset()
    td = env.rand_step(td)["next"]
    env._control.physics.data.qvel[:] = 1e12
    after = env.rand_step(td)["next"]
    assert after["truncated"]
    assert not after["terminated"]  # or a critic would learn that nothing is worth anything from there on
    assert (after["image"] == td["image"]).all()
    assert torch.isfinite(after["proprio"]).all()
    assert env.diverged
    assert "walker, episode 0, step 1" in caplog.text
    assert torch.isfinite(env.reset()["proprio"]).all()
    assert not env.diverged


def test_poisoned_action_is_named(env: DMCEnv) -> None:
    td = env.reset()
    with pytest.raises(RuntimeError, match="walker, episode 0, agent step 0: the action is not finite"):
        env.step(td.set("action", torch.tensor([0.0, 0.0, float("nan"), 0.0, 0.0, 0.0])))


def test_missing_camera_is_named() -> None:
    message = "env.camera=2 does not exist in walker: it has 0 (side), 1 (back)"
    with pytest.raises(UserError, match=re.escape(message)):
        make_env(EnvConfig(camera="2"), 0)


def test_cameras_differ() -> None:
    states = load_task("walker", "walk").physics.get_state()[None]
    side, back, named = (render_states(EnvConfig(camera=camera), states) for camera in ("0", "1", "back"))
    assert (side != back).any()
    assert (named == back).all()


def test_states_of_another_task_are_refused() -> None:
    with pytest.raises(UserError, match=r"shape \(3, 17\) are not walker's: \(any, 18\)"):
        render_states(EnvConfig(), np.zeros((3, 17)))


def test_tasks_whose_scene_is_not_in_the_state_are_refused() -> None:
    with pytest.raises(UserError, match="dmc:reacher-easy draws its scene anew in each episode"):
        render_states(EnvConfig(name="dmc:reacher-easy"), load_task("reacher", "easy").physics.get_state()[None])


def test_random_terrain_reaches_the_picture() -> None:
    config = EnvConfig(name="dmc:quadruped-escape", image_size=48)
    env = make_env(config, seed=0)
    seen = [env.reset()["image"] for _ in range(2)]
    env.close()
    fresh = make_env(config, seed=0)
    fresh.set_episode(1)
    assert (fresh.reset()["image"] == seen[1]).all()
    fresh.close()
    assert (seen[0] != seen[1]).any()


def test_closing_twice_is_fine_and_the_class_knows(env: DMCEnv) -> None:
    assert not env.is_closed
    env.close()
    env.close()
    assert env.is_closed
