"""The counting environment says the truth about episode and time, in the keys that all environments share."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torchrl.envs.utils import check_env_specs

from vmil.config.schema import EnvConfig
from vmil.envs.counting import CountingEnv, encode
from vmil.envs.factory import make_env, render_states, revisit


def decode(image: np.ndarray) -> tuple[int, int]:
    """(episode % 256, time), read back from a picture (H, W, 3) of one colour."""
    corner = image[0, 0]
    assert (image == corner).all()
    return int(corner[0]), int(corner[1]) * 256 + int(corner[2])


def _env(**changes) -> CountingEnv:
    return make_env(EnvConfig(name="counting", image_size=8, **changes), seed=0)


def _step(env, td, value: float = 0.0):
    return env.step(td.set("action", torch.full((1,), value)))["next"]


@pytest.mark.parametrize("proprio", [False, True])
def test_specs(proprio: bool) -> None:
    env = _env(proprio=proprio, episode_frames=20)
    check_env_specs(env)
    assert ("proprio" in list(env.observation_spec.keys())) == proprio


def test_pixels_count_episodes_and_steps() -> None:
    env = _env(episode_frames=6, proprio=True)
    for episode in range(2):
        td = env.reset()
        for time in range(3):
            assert decode(td["image"].numpy()) == (episode, time)
            assert td["proprio"].tolist() == [episode, time]
            td = _step(env, td)
        assert decode(td["image"].numpy()) == (episode, 3)


def test_time_limit_truncates_and_nothing_terminates() -> None:
    env = _env(episode_frames=6, action_repeat=3)
    td = _step(env, env.reset())
    assert (td["done"].item(), td["truncated"].item(), td["terminated"].item()) == (False, False, False)
    td = _step(env, td)
    assert (td["done"].item(), td["truncated"].item(), td["terminated"].item()) == (True, True, False)
    with pytest.raises(RuntimeError, match="counting, episode 0, agent step 2: this episode is over"):
        _step(env, td)


def test_set_episode_counts_on() -> None:
    env = _env()
    env.set_episode(41)
    assert decode(env.reset()["image"].numpy()) == (41, 0)
    assert decode(env.reset()["image"].numpy()) == (42, 0)


@pytest.mark.parametrize(("episode", "time"), [(0, 0), (255, 255), (3, 256), (7, 65_535)])
def test_encode_decode(episode: int, time: int) -> None:
    assert decode(encode(episode, time, 4)) == (episode, time)


def test_states_are_drawn_as_they_were_seen() -> None:
    env = _env(episode_frames=600, action_repeat=1, proprio=True)
    env.set_episode(5)
    td = env.reset()
    seen, states = [td], [env.physics_state()]
    for _ in range(300):
        td = _step(env, td)
        seen.append(td)
        states.append(env.physics_state())
    assert (render_states(env.config, np.stack(states)) == torch.stack([s["image"] for s in seen]).numpy()).all()
    proprio = torch.stack([s["proprio"] for s in seen]).numpy()
    assert (revisit(env.config, np.stack(states), np.zeros((300, 1)))[1] == proprio).all()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poisoned_action_is_named(poison: float) -> None:
    env = _env()
    with pytest.raises(RuntimeError, match="counting, episode 0, agent step 0: the action is not finite"):
        _step(env, env.reset(), poison)


def test_action_of_another_size_is_named() -> None:
    env = _env()
    with pytest.raises(RuntimeError, match=r"action of shape \(2,\), expected \(1,\)"):
        env._step(env.reset().set("action", torch.zeros(2)))


def test_needs_neither_simulator_nor_opengl() -> None:
    program = (
        "import sys\nfrom vmil.config.schema import EnvConfig\nfrom vmil.envs.factory import env_info, make_env\n"
        "before = set(sys.modules)\nconfig = EnvConfig(name='counting')\n"
        "env_info(config)\nmake_env(config, 0).reset()\n"
        "assert not {'mujoco', 'OpenGL', 'glfw'} & (set(sys.modules) - before)\n"  # TorchRL may bring mujoco itself
        "assert not {'dm_control', 'OpenGL'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=dict(os.environ, MUJOCO_GL=""), check=False)
    assert done.returncode == 0
