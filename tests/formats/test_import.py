"""Every format, written by its own library: which action belongs to which picture, and what is said about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from made import (
    AV1,
    EPISODES,
    LOSSLESS,
    SIZE,
    STEPS,
    Bring,
    actions,
    grey,
    make_lerobot,
    make_minari,
    make_npz,
    make_robomimic,
    pictures,
    proprio,
    rewards,
)
from PIL import Image

from vmil import cli
from vmil.config.schema import Config
from vmil.data.demos import load_demonstrations
from vmil.data.formats.checks import examine
from vmil.data.formats.lerobot import read_lerobot
from vmil.data.formats.robomimic import read_robomimic
from vmil.data.formats.source import ReadOptions, SourceEpisode
from vmil.envs.factory import env_info
from vmil.errors import UserError

# how to make a source, whether a picture follows the last action, and how its vectors are called
FORMATS: dict[str, tuple[Callable[[Path, Any], object], bool, str]] = {
    "npz": (lambda tmp, _: make_npz(tmp / "npz"), True, "proprio"),
    "robomimic": (lambda tmp, _: make_robomimic(tmp / "demo.hdf5"), True, "robot0_eef_pos"),
    "robomimic, no next_obs": (lambda tmp, _: make_robomimic(tmp / "d.h5", next_obs=False), False, "robot0_eef_pos"),
    "minari": (lambda tmp, patch: make_minari(tmp / "minari", patch), True, "pos"),
    "lerobot, video": (lambda tmp, _: make_lerobot(tmp / "lerobot", LOSSLESS), False, "observation.state"),
    "lerobot, pictures in rows": (lambda tmp, _: make_lerobot(tmp / "lerobot"), False, "observation.state"),
}


@pytest.mark.parametrize("format", FORMATS)
def test_the_action_of_a_picture_is_the_one_taken_at_it(
    format: str, bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, closed, vectors = FORMATS[format]
    recordings, said = bring(make(tmp_path, monkeypatch), proprio=vectors)
    assert len(recordings) == EPISODES
    rows = STEPS + 1 if closed else STEPS
    for episode, recording in enumerate(recordings):
        assert recording.image is not None
        assert np.array_equal(recording.image, pictures(episode, rows))
        assert np.array_equal(recording.action, actions(episode))
        assert np.array_equal(recording.reward, rewards(episode))  # type: ignore[arg-type]
        assert np.array_equal(recording.proprio, proprio(episode, rows))  # type: ignore[arg-type]
        assert f"  {STEPS}     {recording.total:.1f}" in said
    assert said.count("  ok") == EPISODES


def test_a_run_sees_imported_demonstrations_aligned(bring: Bring, counting: Config, tmp_path: Path) -> None:
    recordings, _ = bring(make_npz(tmp_path / "npz"))
    counting.demos.path = str(recordings[0].path.parent)
    loaded = load_demonstrations(counting.env, counting.demos, seed=0, sampling_seed=1)
    assert loaded.replay.steps == EPISODES * STEPS
    sample = loaded.replay.sample(40, 6)
    episode, t = sample["image"][..., 0, 0, 0].long(), sample["image"][..., 0, 0, 2].long()
    assert np.allclose(sample["action"][..., 0].numpy(), ((episode * STEPS + t + 1) / 64).numpy())
    assert (sample["t"] == t).all()


def test_a_video_as_lerobot_encodes_it_keeps_its_frames_in_place(bring: Bring, tmp_path: Path) -> None:
    recordings, said = bring(make_lerobot(tmp_path / "lerobot", AV1, grey))
    for recording in recordings:
        assert recording.image is not None
        assert np.abs(recording.image.astype(int) - pictures(0, STEPS, grey)).max() <= 4  # of 17 between two frames
    assert "video, which is lossy" in said


def test_jpeg_of_minari_is_read_and_said_to_be_lossy(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_minari(tmp_path, monkeypatch, jpeg=True, flat=True, picture=grey)
    recordings, said = bring(source)
    assert recordings[2].image is not None
    assert np.abs(recordings[2].image.astype(int) - pictures(0, STEPS + 1, grey)).max() <= 2
    assert said.count("jpeg_encoding was on") == EPISODES


def test_cameras_within_spaces_of_minari(bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_minari(tmp_path, monkeypatch, nested=True)
    with pytest.raises(UserError, match="several: image=<one of pixels/top, pixels/wrist/_index_0> chooses"):
        bring(source)
    for image, order in (("pixels/top", 1), ("pixels/wrist/_index_0", -1)):
        recordings, _ = bring(source, image=image, proprio="arm/pos")
        assert np.array_equal(recordings[1].image, pictures(1, STEPS + 1)[::order])  # type: ignore[arg-type]
        assert np.array_equal(recordings[1].proprio, proprio(1, STEPS + 1))  # type: ignore[arg-type]


def test_jpeg_in_lerobot_s_rows_is_said_to_be_lossy(bring: Bring, tmp_path: Path) -> None:
    assert "lossy" not in bring(make_lerobot(tmp_path / "png"))[1]
    _, said = bring(make_lerobot(tmp_path / "jpeg", picture=grey, codec="JPEG"))
    assert said.count("JPEG pictures, which are lossy") == EPISODES


# ---- what a person can say


def test_the_guide_s_recipe_makes_what_can_be_imported(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(cli.__file__).parent / "OWN_DEMOS.md").read_text()
    (recipe,) = (block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "np.savez" in block)
    monkeypatch.chdir(tmp_path)
    exec(recipe, {"episodes": [(pictures(episode, STEPS), actions(episode)) for episode in range(EPISODES)]})
    recordings, said = bring(tmp_path / "episodes", alignment="at")
    assert "WARNING" not in said
    for episode, recording in enumerate(recordings):
        assert np.array_equal(recording.action, actions(episode))
        assert np.array_equal(recording.image, pictures(episode, STEPS))  # type: ignore[arg-type]
    for key in ("format", "action_repeat", "image_size", "camera", "render_profile"):
        assert key in recordings[0].meta
        assert f"`{key}`" in guide


def test_pictures_of_another_size_are_resized_when_asked(bring: Bring, tmp_path: Path) -> None:
    left_black = np.full((STEPS + 1, 48, 96, 3), 200, np.uint8)
    left_black[:, :, :24] = 0  # the crop to the centre's square leaves it out
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "e.npz", image=left_black, action=np.zeros((STEPS + 1, 1)))
    cropped, _ = bring(tmp_path / "npz", resize="crop")
    stretched, _ = bring(tmp_path / "npz", resize="stretch")
    assert cropped[0].image is not None
    assert stretched[0].image is not None
    assert cropped[0].image.shape == stretched[0].image.shape == (STEPS + 1, SIZE, SIZE, 3)
    assert (cropped[0].image == 200).all()
    assert (stretched[0].image[:, :, :15] == 0).all()
    assert (stretched[0].image[:, :, 17:] == 200).all()


def test_shrinking_antialiases(bring: Bring, tmp_path: Path) -> None:
    stripes = np.zeros((2, 256, 256, 3), np.uint8)
    stripes[:, :, ::2] = 255  # which a nearest or unfiltered reduction by four would turn black or white
    (tmp_path / "npz").mkdir()
    np.savez(tmp_path / "npz" / "e.npz", image=stripes, action=np.zeros((2, 1)))
    recordings, _ = bring(tmp_path / "npz", resize="stretch")
    assert recordings[0].image is not None
    assert np.abs(recordings[0].image[:, :, 2:-2].astype(int) - 127).max() < 10


def test_actions_in_other_units_are_scaled_when_asked(bring: Bring, tmp_path: Path) -> None:
    source = make_robomimic(tmp_path / "demo.hdf5", actions=np.linspace(10.0, 30.0, STEPS)[:, None])
    recordings, said = bring(source, action_low="10", action_high="30", skip_bad=True)
    assert np.allclose(recordings[0].action[:, 0], np.linspace(-1, 1, STEPS))
    assert said.count("refused") == EPISODES - 1  # the others lie in [0, 1], far below 10


def test_actions_in_small_units_are_noted(bring: Bring, tmp_path: Path) -> None:
    source = make_robomimic(tmp_path / "demo.hdf5", actions=np.linspace(-0.01, 0.02, STEPS)[:, None])
    lines = bring(source)[1].splitlines()
    assert "ok; actions reach only 0.02: if they are in other units, action_low and action_high say" in lines[2]
    assert "reach only" not in lines[1]
    assert "reach only" not in bring(source, action_low="-0.05", action_high="0.05", skip_bad=True)[1]


def test_a_table_a_sheet_and_the_run_s_settings_come_with_it(bring: Bring, tmp_path: Path) -> None:
    recordings, said = bring(make_npz(tmp_path / "npz"))
    lines = said.splitlines()
    assert lines[0].split() == ["episode", "steps", "return", "actions", "verdict"]
    assert lines[2].split()[-5:] == [str(STEPS), "1266.0", "[0.20,", "0.38]", "ok"]
    with Image.open(recordings[0].path.parent / "contact_sheet.png") as sheet:
        assert sheet.size == (8 * SIZE, EPISODES * SIZE)
        assert sheet.getpixel((7 * SIZE + 5, SIZE + 5)) == (1, 0, STEPS)  # the last picture of episode 1
    meta = recordings[1].meta
    assert (meta["format"], meta["env"], meta["action_repeat"], meta["image_size"]) == (2, "counting", 1, SIZE)
    assert (meta["render_profile"], meta["camera"]) == ("fast", Config().env.camera)
    assert (meta["source"], meta["return"]) == ("npz: npz", 1266.0)


def test_what_was_done_to_the_source_is_kept_with_it(bring: Bring, tmp_path: Path) -> None:
    keys = ("alignment", "resize", "action_low", "action_high", "proprio")
    source = make_npz(tmp_path / "npz")
    assert [bring(source)[0][0].meta[key] for key in keys] == ["led_to", "none", None, None, []]
    options = {"alignment": "led_to", "resize": "crop", "action_low": "-1", "action_high": "3", "proprio": "proprio"}
    recording = bring(source, **options)[0][1]
    assert [recording.meta[key] for key in keys] == ["led_to", "crop", [-1.0], [3.0], ["proprio"]]
    low, high = (np.array(recording.meta[key]) for key in ("action_low", "action_high"))
    assert np.allclose(low + (recording.action + 1) / 2 * (high - low), actions(1))  # as the guide undoes it


def test_lengths_that_another_action_repeat_explains(bring: Bring, counting: Config, tmp_path: Path) -> None:
    counting.env.episode_frames = 2 * STEPS
    assert "if action_repeat was 2" in bring(make_npz(tmp_path / "npz"))[1]
    counting.env.episode_frames = STEPS - 1
    assert "longer than the task's 11 agent steps" in bring(tmp_path / "npz")[1]
    counting.training.batch_length = STEPS + 1
    assert "too short for training.batch_length=13" in bring(tmp_path / "npz")[1]


def test_vectors_in_raw_units_are_warned_about(bring: Bring, tmp_path: Path) -> None:
    degrees = np.linspace(-173.0, 90.0, 2 * (STEPS + 1)).reshape(-1, 2)
    said = bring(make_npz(tmp_path / "npz", proprio=degrees), proprio="proprio")[1].splitlines()
    assert "ok; proprio reaches 173 and is used as it is" in said[2]
    small = make_npz(tmp_path / "small", proprio=degrees / 180)
    assert "proprio" not in bring(small, proprio="proprio")[1].splitlines()[2]


def test_a_rate_that_is_not_the_run_s(counting: Config, tmp_path: Path) -> None:
    episode = next(read_lerobot(make_lerobot(tmp_path / "lerobot"), ReadOptions(image_size=SIZE)))
    assert isinstance(episode, SourceEpisode)
    for rate, said in ((10.0, []), (20.0, ["10 steps a second, the run's are 20 (20 frames / env.action_repeat): "])):
        found = examine(episode, counting, replace(env_info(counting.env), frames_per_second=rate))
        assert [warning.removesuffix("another action repeat?") for warning in found.warnings] == said


@pytest.mark.parametrize(("env_args", "fps"), [
    ('{"env_kwargs": {"control_freq": 20}}', 20.0), (np.bytes_(b'{"env_kwargs": {"control_freq": 12.5}}'), 12.5),
    ("{}", None), ("[20]", None), ('{"env_kwargs": 20}', None), ("[" * 9999, None), ("no JSON", None), (20, None),
    *((f'{{"env_kwargs": {{"control_freq": {bad}}}}}', None) for bad in ("0", "-20", "NaN", "1e999", "true", '"20"')),
    (None, None),
])  # fmt: skip
def test_the_rate_of_robosuite_s_actions(env_args: object, fps: float | None, tmp_path: Path) -> None:
    with h5py.File(make_robomimic(tmp_path / "demo.hdf5"), "a") as file:
        del file["data"].attrs["env_args"]
        if env_args is not None:
            file["data"].attrs["env_args"] = env_args
    episodes = list(read_robomimic(tmp_path / "demo.hdf5", ReadOptions(image_size=SIZE)))
    assert [episode.fps for episode in episodes if isinstance(episode, SourceEpisode)] == [fps] * EPISODES


def test_metadata_beside_npz_episodes_do_not_make_them_minari_s(bring: Bring, tmp_path: Path) -> None:
    source = make_npz(tmp_path / "npz")
    (source / "metadata.json").write_text("{}")
    assert len(bring(source)[0]) == EPISODES


# ---- the commands


def test_the_command_converts_and_train_s_demos_path_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = make_npz(tmp_path / "npz"), tmp_path / "mine"
    assert cli.main(["import-demos", "env=counting", f"src={source}", f"out={out}"]) == 0
    assert f"train on them with demos.path={out}" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "contact_sheet.png", "demo_0000.npz", "demo_0001.npz", "demo_0002.npz",
    ]  # fmt: skip
    assert cli.main(["import-demos", "env=counting", f"src={source}", f"out={out}"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_what_is_too_short_is_judged_by_the_run_that_will_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Episodes of twelve steps: too few for most algorithms, enough for cloning or for shorter sequences."""
    source = make_npz(tmp_path / "npz")
    for number, run in enumerate((["algo=bc"], ["training.batch_length=12"], ["algo=vmil", "training.batch_length=8"])):
        command = ["import-demos", "env=counting", f"src={source}", f"out={tmp_path / str(number)}", "skip_bad=true"]
        assert cli.main([*command, *run]) == 0
        assert "too short" not in capsys.readouterr().out
    assert cli.main([*command[:3], f"out={tmp_path / 'none'}", "skip_bad=true"]) == 2
    assert "refused: too short for training.batch_length=33" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["env=counting"], "needs src="),
        (["env=counting", "src=nowhere"], "neither a file nor a directory"),
        (["env=counting", "scr=x"], "unknown key 'scr'; did you mean 'src'?"),
        (["env=counting", "src=x", "training.frames=9"], "unknown key 'training.frames'"),
        (["env=counting", "src=x", "format=zarr"], "format=zarr is not one of auto, npz, "),
        (["env=counting", "src=x", "training.batch_size=9"], "unknown key 'training.batch_size'"),
        (["env=counting", "src=x", "algo=cloning"], "unknown algo 'cloning' (known: bc, "),
        (["env=countin", "src=x"], "did you mean 'counting'?"),
        (["env=counting", "src=/dev/null"], "none of what can be imported"),
        (["env=counting", "src=/dev/null", "action_low=a"], "none of what can be imported"),
    ],
)
def test_misuse_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert cli.main(["import-demos", *arguments]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
