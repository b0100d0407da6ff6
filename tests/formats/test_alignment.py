"""Which action belongs to which picture: what is assumed, what a person can say, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from made import EPISODES, SIZE, STEPS, Bring, actions, make_npz, make_robomimic, pictures, proprio, rewards

from vmil import cli
from vmil.config.load import load_config
from vmil.data.recording import read_recording
from vmil.errors import UserError


def test_alignment_can_be_said(bring: Bring, tmp_path: Path) -> None:
    """The same arrays, read both ways: one step apart."""
    source = make_npz(tmp_path / "npz")
    led_to, _ = bring(source)
    at, said = bring(source, alignment="at")
    assert np.array_equal(at[0].action[1:], led_to[0].action)
    assert at[0].image is not None
    assert len(at[0].image) == len(at[0].action) == STEPS + 1
    assert "WARNING: the first action of every episode is exactly zero" not in said  # .npz is known to do that


def test_an_action_that_led_to_the_first_picture_is_left_out_when_led_to_was_said(bring: Bring, tmp_path: Path) -> None:
    """LIBERO's files: action[0] was taken, at a picture that nobody kept."""
    source = make_robomimic(tmp_path / "demo.hdf5")
    recordings, said = bring(source, alignment="led_to")
    for episode, recording in enumerate(recordings):
        assert np.array_equal(recording.image, pictures(episode, STEPS))  # type: ignore[arg-type]
        assert np.array_equal(recording.action, actions(episode)[1:])
        assert np.array_equal(recording.reward, rewards(episode)[1:])  # type: ignore[arg-type]
    assert said.count("ok; action[0] was not zero and is left out") == EPISODES
    assert "left out" not in bring(make_npz(tmp_path / "npz"), alignment="led_to")[1]  # a zero is no action


@pytest.mark.parametrize("last", [True, False])
def test_nobody_acted_at_a_picture_that_is_last(last: bool, bring: Bring, tmp_path: Path) -> None:
    """As DreamerV3 and RLDS have it: at the last step an action is stored that was not taken."""
    (tmp_path / "npz").mkdir()
    arrays = {"image": pictures(0, STEPS), "action": actions(0), "reward": rewards(0), "proprio": proprio(0, STEPS)}
    marks = {"is_first": np.arange(STEPS) == 0, "is_last": (np.arange(STEPS) == STEPS - 1) & last}
    np.savez(tmp_path / "npz" / "e.npz", **arrays, **marks)  # type: ignore[arg-type]
    (recording,), said = bring(tmp_path / "npz", alignment="at", proprio="proprio")
    taken = STEPS - 1 if last else STEPS
    assert np.array_equal(recording.image, pictures(0, STEPS))  # type: ignore[arg-type]
    assert np.array_equal(recording.proprio, proprio(0, STEPS))  # type: ignore[arg-type]
    assert np.array_equal(recording.action, actions(0)[:taken])
    assert np.array_equal(recording.reward, rewards(0)[:taken])  # type: ignore[arg-type]
    assert ("which is_last says nobody took, is left out" in said) == last


def test_the_last_action_of_dreamer_led_to_the_last_picture(bring: Bring, tmp_path: Path) -> None:
    """DreamerV2 marks it too, one episode per file."""
    last = np.arange(STEPS + 1) == STEPS
    recordings, _ = bring(make_npz(tmp_path / "npz", is_first=np.roll(last, 1), is_last=last))
    assert np.array_equal(recordings[1].action, actions(1))


def test_the_cure_that_a_replay_names_works(bring: Bring, tmp_path: Path) -> None:
    """Walker's states with the actions that led to them, the first of which is not zero."""
    demo = read_recording(sorted((Path(cli.__file__).parent / "assets/walker/demos").glob("demo_*.npz"))[0])
    assert demo.physics is not None
    (tmp_path / "npz").mkdir()
    arrays = {"image": np.zeros((STEPS, SIZE, SIZE, 3), np.uint8), "physics": demo.physics[1 : STEPS + 1]}
    np.savez(tmp_path / "npz" / "e.npz", action=demo.action[:STEPS], **arrays)  # type: ignore[arg-type]
    walker = load_config(["env=walker"])
    with pytest.raises(UserError):
        bring(tmp_path / "npz", walker, alignment="at")
    recordings, said = bring(tmp_path / "npz", walker, alignment="led_to")
    assert "replays (error" in said
    assert np.array_equal(recordings[0].action, demo.action[1:STEPS])


def test_the_report_says_which_alignment_was_assumed(bring: Bring, tmp_path: Path) -> None:
    """An own recording that starts idle looks as Dreamer's: it is read as such, and that is said aloud."""
    said = bring(make_npz(tmp_path / "npz"))[1]
    assert "read as led_to (npz's convention): action[t] led to image[t]; alignment=at overrules" in said
    robomimic = make_robomimic(tmp_path / "demo.hdf5")
    assert (
        "read as at (robomimic's convention): action[t] was taken at image[t]; alignment=led_to" in bring(robomimic)[1]
    )
    (tmp_path / "own").mkdir()
    idle = np.concatenate([np.zeros((1, 1), np.float32), actions(0)])
    arrays = {"image": pictures(0, STEPS + 1), "action": idle, "physics": proprio(0, STEPS + 1)}
    marks = ("discount", "is_first", "is_last", "is_terminal", "reset")  # Dreamer's, and RLDS's too
    for more in ({}, {key: np.zeros(STEPS + 1) for key in marks}):
        np.savez(tmp_path / "own" / "e.npz", **arrays, **more)  # type: ignore[arg-type]
        recordings, said = bring(tmp_path / "own")
        assert np.array_equal(recordings[0].action, actions(0))
        assert "not replayed: nothing here replays this task" in said
        assert "WARNING: nothing in .npz files tells which it is, and led_to is a guess" in said
    for alignment in ("at", "led_to"):
        recordings, said = bring(tmp_path / "own", alignment=alignment)
        assert len(recordings[0].action) == (STEPS + 1 if alignment == "at" else STEPS)
        assert f"read as {alignment} (as was said): " in said
        assert "WARNING" not in said


def test_the_zero_that_nobody_took_is_zero_in_the_file_s_own_range(bring: Bring, tmp_path: Path) -> None:
    """Scaled from [-1, 3] it is -0.5, and is left out all the same."""
    source = make_npz(tmp_path / "npz")
    for episode, path in enumerate(sorted(source.iterdir())):
        with np.load(path) as file:
            arrays = dict(file)
        arrays["action"][1:] = 2 * actions(episode) + 1
        np.savez_compressed(path, **arrays)
    recordings, _ = bring(source, action_low="-1", action_high="3")
    for episode, recording in enumerate(recordings):
        assert np.allclose(recording.action, actions(episode))


def test_a_zero_first_action_in_another_format_is_suspicious(bring: Bring, tmp_path: Path) -> None:
    shifted = np.concatenate([np.zeros((1, 1)), actions(1)[:-1]])
    source = make_robomimic(tmp_path / "demo.hdf5", actions=shifted)
    assert "WARNING" not in bring(source)[1]  # one episode may begin with zero
    with h5py.File(source, "a") as file:
        for episode in (0, 2):
            file[f"data/demo_{episode}/actions"][0] = 0
    assert "import them with alignment=led_to" in bring(source)[1]
    assert "import them with alignment=led_to" in bring(source, action_low="-1", action_high="3")[1]
