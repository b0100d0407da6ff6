"""LeRobot's datasets that are kept as links, hold depth, or are odd in one column or episode."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pyarrow.parquet as pq
import pytest
from made import EPISODES, LOSSLESS, SIZE, STEPS, Bring, make_lerobot, pictures, refused, write_video

from vmil.data.formats.lerobot import _numbers
from vmil.data.formats.source import ReadOptions
from vmil.data.formats.video import STARTS, VideoReader
from vmil.errors import UserError


def test_a_snapshot_of_links_into_a_cache_is_read(bring: Bring, tmp_path: Path) -> None:
    """As the Hugging Face Hub keeps what it downloads: every file is a link to a blob beside the snapshots."""
    real, snapshot = make_lerobot(tmp_path / "set", LOSSLESS), tmp_path / "hub/snapshots/1a2b"
    blobs = tmp_path / "hub/blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(path for path in real.rglob("*") if path.is_file())):
        link = snapshot / path.relative_to(real)
        link.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    recordings, _ = bring(snapshot)
    assert np.array_equal(recordings[2].image, pictures(2, STEPS))  # type: ignore[arg-type]


@pytest.mark.parametrize(("where", "mark"), [
    ("info", "is_depth_map"), ("info", "video.is_depth_map"), ("video_info", "video.is_depth_map"),
])  # fmt: skip
def test_depth_is_no_camera(where: str, mark: str, bring: Bring, tmp_path: Path) -> None:
    root = make_lerobot(tmp_path / "set")
    info = json.loads((root / "meta/info.json").read_text())
    colour = {"info": {"video.is_depth_map": False}, "video_info": None}
    info["features"]["observation.images.front"] |= colour
    info["features"]["observation.images.depth"] = {"dtype": "video", "shape": [SIZE, SIZE, 1], where: {mark: True}}
    (root / "meta/info.json").write_text(json.dumps(info))
    assert len(bring(root)[0]) == EPISODES
    assert "(it has: observation.images.front)" in refused(bring, root, image="observation.images.depth")


def test_an_empty_episode_of_lerobot(bring: Bring, tmp_path: Path) -> None:
    root = make_lerobot(tmp_path / "set")
    path, rows = root / "meta/episodes/chunk-000/file-000.parquet", root / "data/chunk-000/file-001.parquet"
    table = pq.read_table(path)
    lengths = table["length"].to_pylist()
    lengths[2] = 0
    pq.write_table(table.set_column(table.column_names.index("length"), "length", [lengths]), path)
    pq.write_table(pq.read_table(rows).slice(0, 0), rows)
    assert "episode_2 is empty" in refused(bring, root)


@pytest.mark.parametrize("cells", [[], [[], []]])
def test_a_column_without_numbers_is_none(cells: list[Any]) -> None:
    with pytest.raises(UserError, match="does not hold numbers"):
        _numbers(cells, "next.reward")


def test_several_rewards_a_row_of_lerobot(bring: Bring, tmp_path: Path) -> None:
    root = make_lerobot(tmp_path / "set")
    path = root / "data/chunk-000/file-001.parquet"
    table = pq.read_table(path)
    column = table.column_names.index("next.reward")
    pq.write_table(table.set_column(column, "next.reward", [[[1.0, 2.0]] * STEPS]), path)
    assert "reward is of shape (12, 2)" in refused(bring, root)


def test_a_torn_file_of_lerobot_is_left_out(bring: Bring, tmp_path: Path) -> None:
    root = make_lerobot(tmp_path / "set")
    (root / "data/chunk-000/file-001.parquet").write_bytes(b"junk")
    recordings, said = bring(root, skip_bad=True)
    assert [recording.meta["episode"] for recording in recordings] == ["episode_0", "episode_1"]
    assert "file-001.parquet is corrupt" in said


def test_a_video_damaged_in_its_middle_is_refused_instead_of_shifted(tmp_path: Path) -> None:
    """ffmpeg left out what it could not decode: later pictures stood beside actions of some steps before."""
    count, path = 40, tmp_path / "file.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    moving = [np.roll(noise, 2 * t, axis=1) for t in range(count)]
    write_video(path, moving, {"codec": "libx264", "output_params": ["-g", "2", "-crf", "18"]})
    options = ReadOptions(image_size=SIZE)
    sound = VideoReader(path)
    assert len(sound.read(0, count, options)) == count
    sound.close()
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    middle = start + int.from_bytes(content[start - 8 : start - 4], "big") // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    damaged = VideoReader(path)
    with pytest.raises(UserError, match="is truncated or damaged: frame 39 was looked for"):
        damaged.read(0, count, options)
    damaged.close()


@pytest.mark.parametrize("failures", [STARTS - 1, STARTS])
def test_a_video_is_not_judged_by_how_long_ffmpeg_takes_to_begin(
    failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "file.mp4", [np.zeros((SIZE, SIZE, 3), np.uint8)] * 3, LOSSLESS)
    begin, begun = imageio_ffmpeg.read_frames, [0]

    def late(*args: Any, **kwargs: Any) -> Iterator[Any]:
        begun[0] += 1
        if begun[0] <= failures:
            raise OSError("Could not load meta information\n=== stderr ===\n\n")  # after ten seconds
        yield from begin(*args, **kwargs)

    monkeypatch.setattr(imageio_ffmpeg, "read_frames", late)
    if failures == STARTS:
        with pytest.raises(UserError, match=r"ffmpeg did not begin to read .* try on a less busy machine"):
            VideoReader(tmp_path / "file.mp4")
        return
    reader = VideoReader(tmp_path / "file.mp4")
    assert len(reader.read(0, 3, ReadOptions(image_size=SIZE))) == 3
    reader.close()


def test_what_is_no_video_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file.mp4").write_bytes(b"junk" * 100)
    with pytest.raises(UserError, match="corrupt or truncated, or no MP4 video"):
        VideoReader(tmp_path / "file.mp4")
