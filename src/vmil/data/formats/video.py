"""Frames of a video file, decoded by the ffmpeg that imageio-ffmpeg brings, one at a time and in order."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from vmil.data.formats.source import MAX_PIXELS, ReadOptions, resized
from vmil.errors import UserError

PATIENCE = 10  # seconds that imageio-ffmpeg gives ffmpeg to begin, which says nothing about the file
STARTS = 6  # how often it may
SAID = "=== stderr ==="  # after which imageio-ffmpeg puts what ffmpeg said


class VideoReader:
    """Reads frames of one MP4 forwards; frame i is the i-th picture of the file, whatever its time stamp says.

    ffmpeg is told the container and kept to local files, so that a hostile one cannot make it fetch anything.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path} is missing")
        self.path = path
        self.position = 0  # the next frame
        for _ in range(STARTS):
            self._frames, begun = _decoding(path), time.monotonic()
            try:
                self._size = next(self._frames)["size"]  # width, height
            except Exception as error:
                late = time.monotonic() - begun >= PATIENCE or str(error).rstrip().endswith(SAID)
                if not (isinstance(error, OSError) and late):
                    raise UserError(f"{path} is corrupt or truncated, or no MP4 video") from error
            else:
                return
        raise UserError(
            f"ffmpeg did not begin to read {path} in {STARTS} times {PATIENCE} s: try on a less busy machine"
        )

    def read(self, start: int, count: int, options: ReadOptions) -> np.ndarray:
        """Frames [start, start + count) at the run's size: (count, H, W, 3) uint8.

        UserError if the file ends before, is damaged, or its frames are of another size and may not be resized.
        """
        if start < self.position:
            raise ValueError(f"{self.path} is read forwards: at {self.position}, asked for {start}")
        pictures = []
        width, height = self._size
        try:
            while self.position < start + count:
                frame = next(self._frames)
                self.position += 1  # counted now: a picture of the wrong size must not shift the next episode's
                if self.position > start:
                    pixels = np.frombuffer(frame, np.uint8).reshape(height, width, 3)
                    pictures.append(resized(pixels, options, str(self.path)).copy())
        except UserError:
            raise
        except (StopIteration, RuntimeError, ValueError, OSError) as error:
            raise UserError(
                f"{self.path} is truncated or damaged: frame {start + count - 1} was looked for, "
                f"it ends after {self.position}"
            ) from error
        return np.stack(pictures)

    def close(self) -> None:
        """Ends ffmpeg; may be called twice."""
        self._frames.close()


def _decoding(path: Path) -> Generator[Any, None, None]:
    # Only here: the import looks for the ffmpeg binary.
    import imageio_ffmpeg

    frames: Generator[Any, None, None] = imageio_ffmpeg.read_frames(
        path,
        pix_fmt="rgb24",
        # Without -xerror ffmpeg leaves out a picture that it cannot decode, and all that follow come too early.
        input_params=["-xerror", "-protocol_whitelist", "file", "-f", "mov", "-max_pixels", str(MAX_PIXELS)],
        output_params=["-fps_mode", "passthrough"],
    )
    return frames
