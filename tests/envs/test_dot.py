"""The dot goes where actions push it, and is seen there."""

from __future__ import annotations

import numpy as np
import pytest
from torchrl.envs.utils import check_env_specs

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.envs.dot import SPEED, DotEnv
from vmil.envs.factory import env_info, make_env, revisit
from vmil.envs.tasks import draws_itself
from vmil.errors import UserError


def _env(action_repeat: int = 1, **changes) -> DotEnv:
    config = EnvConfig(name="dot", image_size=33, episode_frames=20, action_repeat=action_repeat, **changes)
    return make_env(config, seed=0)


def _brightest(image: np.ndarray) -> tuple[float, float]:
    """Column and row of the brightest pixel, on the scale of the dot's places."""
    row, column = np.unravel_index(image[..., 0].argmax(), image.shape[:2])
    return 2 * column / (image.shape[1] - 1) - 1, 2 * row / (image.shape[0] - 1) - 1


def test_specs_and_sizes() -> None:
    check_env_specs(_env())
    info = env_info(load_config(["env=dot"]).env)
    assert (info.action_size, info.proprio_size, info.steps_per_episode, info.frames_per_step) == (2, 0, 20, 1)
    assert draws_itself("dot")


@pytest.mark.parametrize("action", [(1.0, 0.0), (0.0, -1.0), (-0.5, 0.5)])
def test_an_action_moves_the_dot_and_the_picture_shows_where(action: tuple[float, float]) -> None:
    env = _env()
    env.open_episode()
    env.restore(np.zeros(2))
    env.advance(np.array(action, np.float32))
    assert env.physics_state() == pytest.approx(SPEED * np.array(action))
    picture = revisit(env.config, env.physics_state()[None])[0][0]
    assert _brightest(picture) == pytest.approx(env.physics_state(), abs=2 / 32)


def test_the_reward_is_largest_in_the_middle_and_the_edge_holds() -> None:
    env = _env()
    env.open_episode()
    env.restore(np.array([0.0, 0.0]))
    assert env.advance(np.zeros(2, np.float32)).reward == 1
    env.restore(np.array([0.9, 0.9]))
    assert env.advance(np.ones(2, np.float32)).reward == 0
    assert env.physics_state().tolist() == [1, 1]


def test_repeated_frames_add_up() -> None:
    once, twice = _env(), _env(action_repeat=2)
    for env in (once, twice):
        env.open_episode()
        env.restore(np.array([0.5, 0.0]))
    action = np.array([-0.5, 0.0], np.float32)
    assert twice.advance(action).reward == pytest.approx(once.advance(action).reward + once.advance(action).reward)
    assert twice.physics_state() == pytest.approx(once.physics_state())


def test_episodes_begin_anew_and_a_seed_repeats_them() -> None:
    one, same = _env(), _env()
    begun = []
    for _ in range(3):
        one.reset(), same.reset()
        begun.append(one.physics_state())
        assert (same.physics_state() == begun[-1]).all()
    assert len(np.unique(np.array(begun), axis=0)) == 3


def test_the_time_limit_ends_an_episode() -> None:
    env = _env()
    td = env.reset()
    for step in range(20):
        td = env.step(env.rand_action(td))["next"]
        assert td["truncated"].item() == (step == 19)
        assert not td["terminated"].item()


def test_it_has_no_vector_to_show() -> None:
    with pytest.raises(UserError, match="proprio"):
        _env(proprio=True).reset()
