"""Odd arrays, odd paths and bad episodes among good ones: what is imported can be trained on, what is not is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made import EPISODES, SIZE, STEPS, Bring, actions, make_npz, make_robomimic, pictures, refused, rewards

from vmil import cli
from vmil.config.schema import Config
from vmil.data import recording
from vmil.data.formats import checks, hdf5
from vmil.data.formats.source import ReadOptions, checked_images
from vmil.errors import UserError

ROWS = STEPS + 1
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "rewards side by side": ({"reward": np.zeros((ROWS, 2))}, "reward is of shape (13, 2)"),
    "one reward": ({"reward": np.float32(1)}, "reward is of shape ()"),
    "flat physics": ({"physics": np.zeros(ROWS)}, "physics is of shape (13,)"),
    "deep physics": ({"physics": np.zeros((ROWS, 2, 2))}, "physics is of shape (13, 2, 2)"),
    "one physics": ({"physics": np.float64(1)}, "physics is of shape ()"),
    "deep proprio": ({"proprio": np.zeros((ROWS, 2, 2))}, "proprio of shapes (13, 2, 2) do not fit"),
    "no height": ({"image": np.zeros((ROWS, 0, 64, 3), np.uint8)}, "images are uint8 of shape (13, 0, 64, 3)"),
    "no action dimension": ({"action": np.zeros((ROWS, 0))}, "refused: 0 action dimensions, the task has 1; no action"),
}


@pytest.mark.parametrize("name", ODD)
def test_arrays_of_odd_shapes_are_refused(name: str, bring: Bring, tmp_path: Path) -> None:
    changes, said = ODD[name]
    source = make_npz(tmp_path / "npz", **changes)
    recordings, words = bring(source, skip_bad=True, proprio="proprio")
    assert len(recordings) == EPISODES - 1
    assert said in words.splitlines()[2]
    refused(bring, source, proprio="proprio")


def test_arrays_that_mean_the_same_are_brought_into_shape(bring: Bring, tmp_path: Path) -> None:
    column = np.concatenate([[[0]], rewards(1)[:, None]])
    states = np.arange(2 * ROWS).reshape(ROWS, 2)
    recordings, said = bring(make_npz(tmp_path / "npz", reward=column, physics=states))  # which reads them back
    assert np.array_equal(recordings[1].reward, rewards(1))  # type: ignore[arg-type]
    assert recordings[1].physics is not None
    assert recordings[1].physics.dtype == np.float64
    assert np.array_equal(recordings[1].physics, states)
    assert "not replayed: nothing here replays this task" in said.splitlines()[2]


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_rewards_that_are_no_numbers_are_left_out(bad: float, bring: Bring, tmp_path: Path) -> None:
    """Imitation needs none, so that they are no reason to refuse an episode."""
    recordings, said = bring(make_npz(tmp_path / "npz", reward=np.r_[np.zeros(STEPS), bad]))
    assert [recording.total is None for recording in recordings] == [False, True, False]
    assert "ok; NaN or infinite rewards, which are left out; no rewards, so no expert score" in said.splitlines()[2]


def test_an_empty_action_of_robomimic(bring: Bring, tmp_path: Path) -> None:
    said = bring(make_robomimic(tmp_path / "demo.hdf5", actions=np.zeros((STEPS, 0))), skip_bad=True)[1]
    assert "0 action dimensions" in said


def test_a_long_recording_of_a_large_camera_is_resized_block_by_block(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unresized it is more than is read of an episode, and more than a block, which is of whole chunks."""
    large = pictures(1, ROWS).repeat(3, axis=1).repeat(2, axis=2)
    source = make_robomimic(tmp_path / "demo.hdf5", **{"obs/agentview_image": large[:-1]})
    with h5py.File(source, "a") as file:
        demo = file["data/demo_1"]
        del demo["next_obs"], demo["obs/agentview_image"]
        demo.create_dataset("obs/agentview_image", data=large[:-1], chunks=(5, 64, 64, 3), compression="gzip")
    for name, value in (("BLOCK", 6 * large[0].nbytes), ("MAX_SOURCE_BYTES", 7 * large[0].nbytes)):
        monkeypatch.setattr(hdf5, name, value)
    monkeypatch.setattr("vmil.data.formats.source.MAX_SOURCE_BYTES", 7 * large[0].nbytes)
    recordings, _ = bring(source, resize="stretch")
    assert np.array_equal(recordings[1].image, checked_images(large[:-1], ReadOptions(SIZE, resize="stretch"), ""))
    assert "images are 192 x 128 pixels" in refused(bring, source)  # and what to do about it
    with h5py.File(make_robomimic(tmp_path / "huge.hdf5"), "a") as file:
        del file["data/demo_1/obs/agentview_image"]
        shape, chunks = (STEPS, 2**16, 2**16, 3), (1, 64, 64, 3)
        file["data/demo_1/obs"].create_dataset("agentview_image", shape, np.uint8, chunks=chunks)
    assert "agentview_image: a picture unpacks to more than" in refused(bring, tmp_path / "huge.hdf5", resize="stretch")


@pytest.mark.parametrize("bad", ["junk", "not zero"])
def test_a_bad_episode_is_named_or_left_out(bad: str, bring: Bring, tmp_path: Path) -> None:
    changes = {"action": np.ones((ROWS, 1), np.float32)} if bad == "not zero" else {}
    source = make_npz(tmp_path / "npz", **changes)
    name = sorted(source.iterdir())[1].name
    if bad == "junk":
        (source / name).write_bytes(b"junk")
    assert name in refused(bring, source)
    recordings, said = bring(source, skip_bad=True)
    assert [recording.meta["episode"] for recording in recordings] == sorted(
        path.name for path in source.iterdir() if path.name != name
    )
    assert said.splitlines()[2].startswith(name)
    assert "refused: " in said.splitlines()[2]


def test_a_bad_demo_of_robomimic_is_left_out(bring: Bring, tmp_path: Path) -> None:
    source = make_robomimic(tmp_path / "demo.hdf5", actions=np.zeros(STEPS))
    assert len(bring(source, skip_bad=True)[0]) == EPISODES - 1


def test_episodes_too_short_to_train_on_are_left_out_when_asked(bring: Bring, counting: Config, tmp_path: Path) -> None:
    short = {"image": pictures(1, 4), "action": np.zeros((4, 1)), "reward": np.zeros(4), "proprio": np.zeros((4, 2))}
    source = make_npz(tmp_path / "npz", **short)
    assert len(bring(source)[0]) == EPISODES  # with a warning
    recordings, said = bring(source, skip_bad=True)
    assert len(recordings) == EPISODES - 1
    assert "refused: too short for training.batch_length=6" in said.splitlines()[2]


def test_an_episode_too_large_to_be_kept_is_left_out_when_asked(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of a camera, say: others of its source are fine."""
    rows = 2 * ROWS
    source = make_npz(tmp_path / "npz", image=pictures(1, rows), action=np.zeros((rows, 1)), reward=np.zeros(rows))
    said = bring(source)[1]
    assert "would unpack" not in said
    monkeypatch.setattr(recording, "MAX_BYTES", 3 * ROWS * SIZE * SIZE * 3 // 2)
    for module in (recording, checks):
        monkeypatch.setattr(module, "MAX_STEPS", rows - 2)
    assert "1 of 3 episodes" in refused(bring, source)
    recordings, said = bring(source, skip_bad=True)
    assert len(recordings) == EPISODES - 1
    verdict = said.splitlines()[2]
    assert "would unpack to 0 MiB, a demonstration to 0 MiB at the most: cut it, or lower env.image_size" in verdict
    assert "25 steps, a demonstration has 24 at the most: cut it" in verdict


def test_a_wrong_image_key_names_the_arrays(bring: Bring, tmp_path: Path) -> None:
    source = make_npz(tmp_path / "npz")
    assert "no images 'foo': image=<one of image, action, reward" in refused(bring, source, image="foo")
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "e.npz", images=pictures(0, STEPS), action=np.zeros((STEPS, 1)))
    assert "no images 'image': image=<one of images, action>" in refused(bring, tmp_path / "other")
    assert len(bring(tmp_path / "other", image="images")[0]) == 1


def test_a_link_on_the_way_is_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["g/x"] = actions(0)
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["ext"] = h5py.ExternalLink("secret.h5", "/g")
        file["soft"] = h5py.SoftLink("/hard")
        file["hard/x"] = actions(1)
    with h5py.File(tmp_path / "link.h5") as file:
        assert np.array_equal(hdf5.array(file, "hard/x", "here"), actions(1))
        for key in ("ext", "ext/x", "soft/x"):
            with pytest.raises(UserError, match="is a link to elsewhere"):
                hdf5.array(file, key, "here")
        with pytest.raises(UserError, match="has no array 'hard/x/y'"):
            hdf5.array(file, "hard/x/y", "here")


def test_groups_that_lead_in_circles_are_looked_through_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "circle.h5", "w") as file:
        file["a/b/x"] = file["1/2/3/4/x"] = file["1/2/3/4/5/x"] = pictures(0, 1)
        for name in map(str, range(99)):  # as many ways back to the beginning
            file[f"a/b/back{name}"] = file["/"]
        assert hdf5.image_keys(file, "here") == ["a/b/x", "1/2/3/4/x"]  # what is deeper is not looked for


@pytest.mark.parametrize("wrong", [f"src={'x' * 300}", "src=~nosuchuser/x", "out=~nosuchuser/x", f"out={'x' * 300}"])
@pytest.mark.parametrize("command", ["import-demos", "export-demos"])
def test_paths_that_cannot_be_are_one_sentence(
    command: str, wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"src": f"src={make_npz(tmp_path / 'npz')}", "out": f"out={tmp_path / 'out'}"}
    given[wrong[:3]] = wrong
    if command == "export-demos":
        del given["src"]
        if wrong.startswith("src"):
            return
    assert cli.main([command, "env=walker" if command == "export-demos" else "env=counting", *given.values()]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_directory_can_be_the_present_one_and_no_link(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, here, link = make_npz(tmp_path / "npz"), tmp_path / "here", tmp_path / "link"
    here.mkdir()
    (tmp_path / "empty").mkdir()
    os.symlink(tmp_path / "empty", link)
    assert cli.main(["import-demos", "env=counting", f"src={source}", f"out={link}"]) == 2
    assert "cannot write" in capsys.readouterr().err
    monkeypatch.chdir(here)
    assert cli.main(["import-demos", "env=counting", f"src={source}", "out=."]) == 0
    assert (here / "demo_0002.npz").exists()
