"""Pictures from arrays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest

from vmil.tracking.pictures import contact_sheet, histogram_picture, open_loop_panel, write_video


def test_open_loop_rows_are_truth_model_and_signed_error_and_columns_are_time() -> None:
    truth = np.zeros((4, 2, 2, 2, 3), np.uint8)  # (T, B, H, W, 3)
    truth += np.arange(4, dtype=np.uint8)[:, None, None, None, None] * 10
    truth[:, 1] += 100
    model = truth.copy()
    model[2] += 20
    panel = open_loop_panel(truth, model, stride=2)  # times 0 and 2
    assert panel.shape == (2 * 3 * 2, 2 * 2, 3)
    of_time, of_row = panel[:, ::2, 0], slice(None, None, 2)
    assert of_time[of_row].tolist() == [[0, 20], [0, 40], [128, 138], [100, 120], [100, 140], [128, 138]]


def test_an_error_darker_than_the_truth_is_below_grey() -> None:
    truth, model = np.full((1, 1, 2, 2, 3), 255, np.uint8), np.zeros((1, 1, 2, 2, 3), np.uint8)
    assert open_loop_panel(truth, model)[4, 0, 0] == 0
    assert open_loop_panel(model, truth)[4, 0, 0] == 255


def test_open_loop_refuses_pictures_that_do_not_match() -> None:
    with pytest.raises(ValueError, match="must both be"):
        open_loop_panel(np.zeros((2, 1, 4, 4, 3), np.uint8), np.zeros((3, 1, 4, 4, 3), np.uint8))


def test_a_contact_sheet_reads_like_a_page() -> None:
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None].repeat(2, 1).repeat(2, 2).repeat(3, 3)
    sheet = contact_sheet(images, columns=3)
    assert sheet[::2, ::2, 0].tolist() == [[1, 2, 3], [4, 5, 0]]


def test_the_fullest_bin_reaches_the_top_and_an_empty_one_is_white() -> None:
    values = np.array([0.0] * 8 + [1.0] * 4)
    picture = histogram_picture(values, bins=4, height=100, bar=8)
    filled = (picture[:100] != 255).any(axis=2)  # (height, width)
    heights = filled.sum(axis=0).reshape(4, 8).max(axis=1)
    assert heights.tolist() == [100, 0, 0, 50]


def test_a_line_stands_at_zero_where_values_lie_on_both_sides() -> None:
    values = np.array([-1.0] * 8 + [3.0] * 8)
    both = histogram_picture(values, bins=4, height=100, bar=10)
    assert np.flatnonzero((both[:100] < 100).all(axis=(0, 2))).tolist() == [10]
    assert not (histogram_picture(values + 2, bins=4, height=100, bar=10)[:100] < 100).all(axis=(0, 2)).any()


@pytest.mark.parametrize("values", [np.zeros(0), np.array([np.nan, np.inf])])
def test_a_histogram_of_nothing_is_still_a_picture(values: np.ndarray) -> None:
    assert histogram_picture(values).dtype == np.uint8


def test_a_film_keeps_its_length_and_colours_and_small_odd_frames_are_enlarged(tmp_path: Path) -> None:
    frames = np.zeros((5, 33, 31, 3), np.uint8)
    frames[..., 0] = 200
    write_video(tmp_path / "v" / "a.mp4", frames, fps=10)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "v" / "a.mp4"))
    meta = next(reader)
    width, height = meta["size"]
    seen = [np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader]
    assert (width, height) == (280, 298)  # 9 × (31, 33), and one column and row more to be even
    assert len(seen) == 5
    assert np.abs(seen[2].mean(axis=(0, 1)) - [200, 0, 0]).max() < 12
    assert [path.name for path in (tmp_path / "v").iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("left", [b"", b"no film", None])
def test_a_film_that_ffmpeg_does_not_finish_leaves_the_one_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes | None
) -> None:
    frames = np.zeros((5, 16, 16, 3), np.uint8)
    path = tmp_path / "a.mp4"
    write_video(path, frames, fps=10)
    before = path.read_bytes()
    write = imageio_ffmpeg.write_frames

    def write_some(file: str, *args: Any, **kwargs: Any) -> Iterator[None]:
        """As when the disk is full, which shows in ffmpeg's exit code alone: what is left, or the first frames only."""
        writer = write(file, *args, **kwargs)
        writer.send(None)
        for number in range(6):
            try:
                frame = yield
            except GeneratorExit:
                break
            if number < 3:
                writer.send(frame)
        writer.close()
        if left is not None:
            Path(file).write_bytes(left)

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", write_some)
    with pytest.raises(OSError, match="ffmpeg wrote no film" if left is not None else "ffmpeg wrote 3 of 5 frames"):
        write_video(path, frames, fps=10)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_frame_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs frames"):
        write_video(tmp_path / "a.mp4", np.zeros((0, 8, 8, 3), np.uint8), fps=10)
