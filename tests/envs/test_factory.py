"""From names to tasks and sizes, and what a person hears about a wrong name."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from vmil.config.schema import Config, EnvConfig
from vmil.config.suite import SUITE
from vmil.envs.counting import CountingEnv
from vmil.envs.factory import EnvInfo, env_info, make_env, render_states
from vmil.envs.suite import dmc_task, import_suite
from vmil.envs.tasks import TASKS, Family, Task, draws_itself, find_task
from vmil.errors import UserError
from vmil.training.assembly import frames_per_second


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("walker", ("walker", "walk")),
        ("cheetah", ("cheetah", "run")),
        ("dmc:walker-walk", ("walker", "walk")),
        ("dmc:ball_in_cup-catch", ("ball_in_cup", "catch")),
        ("dmc:humanoid_CMU-run", ("humanoid_CMU", "run")),
    ],
)
def test_names_of_tasks(name: str, task: tuple[str, str]) -> None:
    assert dmc_task(name) == task


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("walkr", "walker"),
        ("Cheetah", "cheetah"),
        ("count", "counting"),
        ("dmc:walker-wlak", "dmc:walker-walk"),
        ("dmc:chetah-run", "dmc:cheetah-run"),
        ("quadruped-walk", "dmc:quadruped-walk"),
    ],
)
def test_wrong_names_get_the_nearest_right_one(wrong: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        make_env(EnvConfig(name=wrong), 0)
    assert str(caught.value).startswith(f"unknown env '{wrong}'")
    assert str(caught.value).endswith(f"; did you mean '{nearest}'?")


def test_a_name_without_a_task_is_told_the_form() -> None:
    with pytest.raises(UserError, match=r"env 'dmc:cheetah' is not of the form dmc:<domain>-<task>"):
        find_task("dmc:cheetah")


def test_the_listed_tasks_are_those_of_dm_control() -> None:
    assert set(SUITE) == {f"dmc:{domain}-{task}" for domain, task in import_suite().ALL_TASKS}


def test_sizes() -> None:
    assert env_info(EnvConfig()) == EnvInfo(6, 0, 64, 500, 2, 40.0)
    cheetah = EnvConfig(name="cheetah", proprio=True, action_repeat=4, image_size=84)
    assert env_info(cheetah) == EnvInfo(6, 17, 84, 250, 4, 100.0)
    assert env_info(EnvConfig(name="counting", proprio=True, episode_frames=10)) == EnvInfo(1, 2, 64, 5, 2, None)


@pytest.mark.parametrize(
    ("name", "rate"), [("walker", 20), ("cheetah", 50), ("sawyer", 40), ("baoding", 5), ("counting", 20)]
)
def test_videos_play_at_the_task_s_own_speed(name: str, rate: float) -> None:
    assert frames_per_second(Config(env=EnvConfig(name=name, action_repeat=2))) == rate


def test_one_record_makes_an_environment_known(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(
        make=lambda config, seed, task: CountingEnv(config, seed),
        measure=lambda task: (1, 2, 30.0),
    )
    own = Task(Family(lambda: module, packages=("mine",), draws_itself=True), "mine", "task")
    monkeypatch.setitem(TASKS, "mine", own)
    config = EnvConfig(name="mine", image_size=8, proprio=True)
    assert find_task("mine") is own
    assert draws_itself("mine")
    assert env_info(config) == EnvInfo(1, 2, 8, 500, 2, 30.0)
    assert make_env(config, 0).reset()["image"].shape == (8, 8, 3)
    assert render_states(config, np.zeros((3, 2))).shape == (3, 8, 8, 3)
    with pytest.raises(UserError, match="did you mean 'mine'"):
        find_task("mien")


def test_names_are_read_before_anything_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom vmil.envs.tasks import draws_itself, find_task\n"
        "assert find_task('walker')[1:] == ('walker', 'walk')\n"
        "assert draws_itself('counting') and not draws_itself('walker')\n"
        "assert not {'torch', 'torchrl', 'mujoco', 'dm_control'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
