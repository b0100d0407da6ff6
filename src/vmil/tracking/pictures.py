"""Pictures and films from arrays: open-loop panels, contact sheets, histograms, PNG and MP4 files."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from einops import rearrange
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vmil.system.files import replace_file

Pixels = NDArray[np.uint8]

LEAST_SIDE = 256  # pixels, of a film
_BAR = (66, 103, 172)
_INK = (40, 40, 40)


def open_loop_panel(truth: Pixels, model: Pixels, stride: int = 1) -> Pixels:
    """Rows truth, model and error over time, one such triple per sequence.

    Args:
        truth: (T, B, H, W, 3), what the environment showed.
        model: (T, B, H, W, 3), what the model predicted without seeing it.
        stride: every stride-th time step is drawn.

    Returns:
        (B·3·H, ⌈T/stride⌉·W, 3); the error is (model − truth) / 2 about mid-grey, so that its sign is seen.
    """
    if truth.shape != model.shape or truth.ndim != 5:
        raise ValueError(f"truth {truth.shape} and model {model.shape} must both be (T, B, H, W, 3)")
    truth, model = truth[::stride], model[::stride]
    difference = (model.astype(np.int16) - truth.astype(np.int16)) // 2 + 128
    rows = np.stack([truth, model, difference.clip(0, 255).astype(np.uint8)])
    return rearrange(rows, "row t b h w c -> (b row h) (t w) c")


def contact_sheet(images: Pixels, columns: int) -> Pixels:
    """Images (N, H, W, 3) in reading order on a grid (rows·H, columns·W, 3); the unused cells are black."""
    if images.ndim != 4 or columns < 1:
        raise ValueError(f"need (N, H, W, 3) and at least one column, got {images.shape} and {columns}")
    missing = -len(images) % columns
    padded = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
    return rearrange(padded, "(r k) h w c -> (r h) (k w) c", k=columns)


def histogram_picture(values: NDArray[np.generic], bins: int = 40, height: int = 160, bar: int = 8) -> Pixels:
    """A bar chart (height + 32, bins·bar, 3) of values of any shape; 0, where it is among them, is a vertical line.

    Below stand both ends of its axis and, in the caption, the mean and the number of values.
    """
    flat = np.asarray(values, np.float64).ravel()
    flat = flat[np.isfinite(flat)]
    width = bins * bar
    picture = Image.new("RGB", (width, height + 32), "white")
    draw = ImageDraw.Draw(picture)
    if not len(flat):
        draw.text((4, height + 2), "no finite value", fill=_INK)
        return np.asarray(picture)
    counts, _ = np.histogram(flat, bins)
    for index, top in enumerate(np.round(height * (1 - counts / counts.max())).astype(int)):
        if counts[index]:
            draw.rectangle((index * bar, min(int(top), height - 1), index * bar + bar - 2, height - 1), fill=_BAR)
    low, high = float(flat.min()), float(flat.max())
    if low < 0 < high:
        zero = round((width - 1) * -low / (high - low))
        draw.line((zero, 0, zero, height - 1), fill=_INK)
    draw.line((0, height, width, height), fill=_INK)
    draw.text((2, height + 2), f"{low:.3g}", fill=_INK)
    draw.text((width - 2, height + 2), f"{high:.3g}", fill=_INK, anchor="ra")
    draw.text((width // 2, height + 16), f"mean {flat.mean():.3g}   n {len(flat)}", fill=_INK, anchor="ma")
    return np.asarray(picture)


def write_png(path: Path, image: Pixels) -> None:
    """Writes (H, W, 3) as PNG; atomic. OSError if the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    replace_file(path, file.getbuffer())


def write_video(path: Path, frames: Pixels, fps: float) -> None:
    """Writes frames (T, H, W, 3) as H.264 MP4; atomic.

    Small frames are enlarged by a whole factor to at least `LEAST_SIDE` pixels (players blur what they enlarge) and
    padded to even sides (the codec's need).

    Raises:
        ValueError: no frame, or frames of another shape.
        OSError: the disk refuses, or ffmpeg fails.
    """
    # Only here: the import looks for the ffmpeg binary.
    import imageio_ffmpeg

    if frames.ndim != 4 or frames.shape[-1] != 3 or not len(frames):
        raise ValueError(f"a video needs frames (T, H, W, 3), got {frames.shape}")
    factor = max(1, -(-LEAST_SIDE // min(frames.shape[1:3])))
    height, width = (factor * side + factor * side % 2 for side in frames.shape[1:3])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.mp4")
    writer = imageio_ffmpeg.write_frames(str(temporary), (width, height), fps=fps, codec="libx264", macro_block_size=2)
    try:
        try:
            writer.send(None)
            for frame in frames:
                large = frame.repeat(factor, 0).repeat(factor, 1)
                margins = ((0, height - large.shape[0]), (0, width - large.shape[1]), (0, 0))
                writer.send(np.ascontiguousarray(np.pad(large, margins, mode="edge")))
        finally:
            writer.close()  # says nothing of how ffmpeg ended
        _check_length(temporary, len(frames))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_length(film: Path, frames: int) -> None:
    """OSError unless ffmpeg reads that many frames in it."""
    import imageio_ffmpeg

    try:
        found, _ = imageio_ffmpeg.count_frames_and_secs(str(film))
    except RuntimeError as error:
        raise OSError(f"ffmpeg wrote no film: {error}") from error
    if found != frames:
        raise OSError(f"ffmpeg wrote {found} of {frames} frames")
