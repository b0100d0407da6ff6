"""Peg insertion: placed by the seed, drawn as recorded, seen from where peg and hole show, always of full length."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDictBase

from vmil.config.load import load_config
from vmil.config.schema import EnvConfig
from vmil.envs.factory import EnvInfo, env_info, make_env, render_states, revisit
from vmil.envs.sawyer import HAND, HAND_HIGH, HAND_LOW, SawyerEnv, load_peg_insertion
from vmil.errors import UserError

PEG, MOCAP, BOX = slice(9, 12), slice(31, 34), slice(38, 41)  # in a physics state
STEPS = 5  # agent steps of an episode
ACTIONS = np.random.default_rng(0).uniform(-1, 1, (STEPS, 4)).astype(np.float32)


def config(**changes: object) -> EnvConfig:
    return EnvConfig(**{"name": "sawyer", "camera": "front", "episode_frames": 2 * STEPS, "proprio": True, **changes})


@pytest.fixture(scope="module")
def env() -> Iterator[SawyerEnv]:
    env = make_env(config(), seed=3)
    assert isinstance(env, SawyerEnv)
    yield env
    env.close()


def play(env: SawyerEnv, actions: np.ndarray, episode: int = 0) -> tuple[list[TensorDictBase], np.ndarray]:
    """Observations and physics states (T + 1, S)."""
    env.set_episode(episode)
    td = env.reset()
    seen, states = [td], [env.physics_state()]
    for action in actions:
        td = env.step(td.clone().set("action", torch.from_numpy(action)))["next"]
        seen.append(td)
        states.append(env.physics_state())
    return seen, np.stack(states)


def pictures(seen: list[TensorDictBase]) -> np.ndarray:
    return np.stack([td["image"].numpy() for td in seen])


def test_sizes_and_what_the_preset_says() -> None:
    preset = load_config(["env=sawyer"])
    assert env_info(preset.env) == EnvInfo(4, 0, 64, 100, 2, 80.0)
    assert env_info(config()) == EnvInfo(4, 4, 64, STEPS, 2, 80.0)
    assert preset.env.score == "success"
    assert preset.training.eval_episodes >= 20


def test_recorded_states_are_drawn_as_the_episode_was_from_its_first_picture_on(env: SawyerEnv) -> None:
    seen, states = play(env, ACTIONS, episode=7)
    assert (render_states(env.config, states) == pictures(seen)).all()
    vectors = np.stack([td["proprio"].numpy() for td in seen])
    assert np.array_equal(revisit(env.config, states, ACTIONS)[1], vectors)
    assert np.allclose(vectors[0, :3], states[0, MOCAP], atol=0.02)  # the hand is where the arm was asked to be


def test_the_state_holds_where_the_box_stands(env: SawyerEnv) -> None:
    _, states = play(env, ACTIONS[:0], episode=7)
    moved = states.copy()
    moved[:, BOX] += (0.0, 0.05, 0.0)
    assert (render_states(env.config, moved) != render_states(env.config, states)).sum() > 100


def test_an_episode_is_decided_by_seed_and_index(env: SawyerEnv) -> None:
    first, states = play(env, ACTIONS[:2], episode=4)
    play(env, ACTIONS, episode=9)
    again, same = play(env, ACTIONS[:2], episode=4)
    assert np.array_equal(states, same)
    assert (pictures(first) == pictures(again)).all()
    other = make_env(config(), seed=4)
    _, elsewhere = play(other, ACTIONS[:0], episode=4)
    other.close()
    for part in (PEG, MOCAP, BOX):
        assert np.abs(elsewhere[0, part] - states[0, part]).max() > 1e-3


def test_hand_peg_and_box_are_placed_anew_in_their_ranges(env: SawyerEnv) -> None:
    starts = np.stack([play(env, ACTIONS[:0], episode)[1][0] for episode in range(12)])
    task = load_peg_insertion()
    space = task._random_reset_space
    for part, low, high in (
        (MOCAP, np.add(HAND, HAND_LOW), np.add(HAND, HAND_HIGH)),
        (PEG, space.low[:3], space.high[:3]),
        (BOX, space.low[3:], space.high[3:]),
    ):
        places = starts[:, part]
        assert (places >= low - 0.02).all()  # a peg may have settled by a hair
        assert (places <= high + 0.02).all()
        spread = (places.max(0) - places.min(0))[:2]
        assert (spread > 0.4 * (high - low)[:2]).all()
    task.close()


def test_peg_and_hole_are_seen_and_up_is_up(env: SawyerEnv) -> None:
    seen, states = zip(*(play(env, ACTIONS[:0], episode) for episode in range(8)), strict=True)
    for td in seen:
        red, green, blue = np.moveaxis(td[0]["image"].numpy().astype(int), -1, 0)
        assert ((green > 150) & (red < 120) & (blue < 120)).sum() >= 15  # the peg
        face = (red > 90) & (green < 30) & (blue < 30)
        assert face[10:].sum() >= 20  # the face with the hole; the arm, as red, is at the top
    lifted = states[0].copy()
    lifted[:, PEG] += (0.0, 0.0, 0.1)
    rows = []
    for picture in (pictures(list(seen[0]))[0], render_states(env.config, lifted)[0]):
        red, green, _ = np.moveaxis(picture.astype(int), -1, 0)
        rows.append(np.nonzero((green > 150) & (red < 120))[0].mean())
    assert rows[1] < rows[0] - 3


def test_the_action_is_repeated_below_the_renderer(env: SawyerEnv) -> None:
    single = make_env(config(action_repeat=1), seed=3)
    _, coarse = play(env, ACTIONS[:2])
    fine_seen, fine = play(single, ACTIONS[:2].repeat(2, axis=0))
    single.close()
    assert np.array_equal(fine[::2], coarse)
    assert len(fine_seen) == 5


def test_a_step_from_a_restored_state_is_the_step_that_was_recorded(env: SawyerEnv) -> None:
    _, states = play(env, ACTIONS)
    env.restore(states[2])
    env.advance(ACTIONS[2])
    assert np.abs(env.physics_state() - states[3]).max() < 1e-6
    env.restore(states[2])
    env.advance(ACTIONS[3])
    assert np.abs(env.physics_state() - states[3]).max() > 1e-4


def test_nothing_but_the_time_limit_ends_an_episode_not_even_a_blown_up_simulation(
    env: SawyerEnv, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # where MuJoCo writes its own log
    env.set_episode(0)
    td = env.reset()
    env._task.data.qvel[:] = np.inf
    with caplog.at_level(logging.WARNING):
        for time in range(STEPS):
            before = td["image"]
            td = env.step(td.set("action", torch.zeros(4)))["next"]
            assert (td["done"].item(), td["terminated"].item()) == (time == STEPS - 1, False)
            assert (td["image"] == before).all()
            assert torch.isfinite(td["reward"]).all()
    assert "sawyer, episode 0, step 0: the simulation is unstable" in caplog.text
    assert env.last_scores == {"success": 0.0, "success_at_end": 0.0}
    play(env, ACTIONS[:1], episode=1)
    assert not env.diverged


def test_cameras_have_names_and_the_profiles_differ() -> None:
    with pytest.raises(UserError, match=r"env.camera=side does not exist in sawyer: it has front, 0 \(topview\), 1"):
        make_env(config(camera="side"), 0)
    env = make_env(config(camera="corner2"), 0)
    _, states = play(env, ACTIONS[:0])
    by_name = render_states(env.config, states)
    env.close()
    assert (by_name == render_states(config(camera="2"), states)).all()
    assert (by_name != render_states(config(), states)).any()


def test_states_of_another_task_are_refused() -> None:
    with pytest.raises(UserError, match=r"shape \(3, 18\) are not sawyer's: \(any, 41\)"):
        render_states(config(), np.zeros((3, 18)))


def test_without_meta_world_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "metaworld.envs.sawyer_peg_insertion_side_v3", None)
    with pytest.raises(UserError, match="env sawyer needs Meta-World, which cannot be imported here"):
        make_env(config(), 0)
