"""Sources of several files: directories of HDF5, of ALOHA's episodes, names in upper case, arrays of other names."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from made import (
    EPISODES,
    STEPS,
    Bring,
    actions,
    make_lerobot,
    make_minari,
    make_npz,
    make_robomimic,
    pictures,
    proprio,
    refused,
)
from PIL import Image

from vmil import cli
from vmil.config.schema import Config
from vmil.config.schema_cli import ImportOptions
from vmil.data.formats.detect import detect
from vmil.data.recording import Recording
from vmil.exchange.import_demos import import_demos


def make_aloha(directory: Path, jpeg: bool = False, suffix: str = ".hdf5") -> Path:
    """Episodes 8, 9, 10 as ACT records them: pictures plain or as rows of JPEG, padded to one length."""
    directory.mkdir()
    for episode in range(EPISODES):
        with h5py.File(directory / f"episode_{8 + episode}{suffix}", "w") as file:
            file.attrs["sim"], file.attrs["compress"] = False, jpeg
            shown = pictures(episode, STEPS)
            file["observations/images/top"] = _padded([_jpeg(each) for each in shown]) if jpeg else shown
            file["observations/qpos"] = proprio(episode, STEPS)
            file["action"] = actions(episode)
    return directory


def _jpeg(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=95)
    return file.getvalue()


def _padded(rows: list[bytes]) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.frombuffer(row.ljust(longest, b"\0"), np.uint8) for row in rows])


def assert_counting(recordings: list[Recording]) -> None:
    assert len(recordings) == EPISODES
    for episode, recording in enumerate(recordings):
        assert np.array_equal(recording.action, actions(episode))
        assert recording.image is not None
        assert np.array_equal(recording.image[:STEPS], pictures(episode, STEPS))


def test_aloha_s_episodes_are_read_in_the_order_of_their_numbers(bring: Bring, tmp_path: Path) -> None:
    recordings, said = bring(make_aloha(tmp_path / "aloha"), proprio="qpos")
    assert_counting(recordings)
    assert [recording.meta["episode"] for recording in recordings] == [f"episode_{n}.hdf5" for n in (8, 9, 10)]
    assert recordings[1].meta["alignment"] == "at"
    assert np.array_equal(recordings[1].proprio, proprio(1, STEPS))  # type: ignore[arg-type]
    assert "read as at (aloha's convention)" in said
    assert detect(str(tmp_path / "aloha" / "episode_9.hdf5"), "auto")[0] == "aloha"


def test_aloha_s_compressed_pictures(bring: Bring, tmp_path: Path) -> None:
    recordings, said = bring(make_aloha(tmp_path / "aloha", jpeg=True))
    assert np.allclose(np.asarray(recordings[2].image, int), pictures(2, STEPS), atol=12)
    assert "JPEG pictures, which are lossy" in said


def test_a_torn_episode_of_aloha_is_left_out(bring: Bring, tmp_path: Path) -> None:
    source = make_aloha(tmp_path / "aloha")
    (source / "episode_9.hdf5").write_bytes(b"junk")
    assert "episode_9.hdf5 is corrupt" in refused(bring, source)
    assert len(bring(source, skip_bad=True)[0]) == 2


def test_a_directory_of_robomimic_s_files(bring: Bring, tmp_path: Path) -> None:
    for name in ("part_10.hdf5", "part_9.HDF5"):
        make_robomimic(tmp_path / name)
    recordings, _ = bring(tmp_path)
    assert_counting(recordings[:EPISODES])
    assert_counting(recordings[EPISODES:])
    assert recordings[0].meta["episode"] == "part_9.HDF5: demo_0"


def test_npz_episodes_in_upper_case_are_not_left_out(bring: Bring, tmp_path: Path) -> None:
    source = make_npz(tmp_path / "npz")
    first = min(source.iterdir())
    first.rename(first.with_suffix(".NPZ"))
    (source / "._hidden.npz").write_bytes(b"of another system")
    assert_counting(bring(source)[0])


@pytest.mark.parametrize("format", ["npz", "robomimic", "minari", "lerobot", "aloha"])
def test_actions_may_have_another_name(
    format: str, bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = {
        "npz": lambda: make_npz(tmp_path / "npz"),
        "robomimic": lambda: make_robomimic(tmp_path / "demo.hdf5"),
        "minari": lambda: make_minari(tmp_path / "minari", monkeypatch),
        "lerobot": lambda: make_lerobot(tmp_path / "lerobot"),
        "aloha": lambda: make_aloha(tmp_path / "aloha"),
    }
    source = make[format]()
    assert "has no" in refused(bring, source, action="torque")
    usual = {"robomimic": "actions", "minari": "actions"}.get(format, "action")
    assert_counting(bring(source, action=usual)[0])


def test_where_a_source_of_a_dotted_name_goes(
    counting: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_npz(tmp_path / "pick.v1.2")
    make_robomimic(tmp_path / "pick.v1.hdf5")
    for source, name in (("pick.v1.2/", "pick.v1.2"), ("pick.v1.hdf5", "pick.v1")):
        [first, *_] = import_demos(ImportOptions(src=source), counting, lambda _: None)
        assert first.parent == tmp_path / "runs" / f"imported-counting-{name}"


def test_the_command_takes_the_name_of_the_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_aloha(tmp_path / "aloha")
    assert cli.main(["import-demos", "env=counting", f"src={source}", f"out={tmp_path}/out", "action=torque"]) == 2
    assert "has no array 'torque'" in capsys.readouterr().err
