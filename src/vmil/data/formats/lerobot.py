"""LeRobot v3 datasets: rows in parquet, pictures in MP4 (or in the rows), episodes found through `meta/episodes`.

Row t holds action[t] and what was seen when it was taken; there is no picture after the last action. Rows and frames of
many episodes share files; `meta/episodes` says where each begins. LeRobot itself is not needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vmil.data.formats.hdf5 import JPEG, decoded, need
from vmil.data.formats.parquet import read_parquet, sound
from vmil.data.formats.source import (
    MAX_EPISODES,
    Convention,
    ReadOptions,
    SourceEpisode,
    Unreadable,
    aligned,
    alignment_of,
    attempt,
    check_size,
    rate,
    read_json,
    scaled_actions,
    side_by_side,
    the_image_key,
)
from vmil.data.formats.video import VideoReader
from vmil.errors import UserError

INFO = "meta/info.json"
REWARD = "next.reward"  # of the action of the same row


def read_lerobot(root: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    """The episodes of a dataset, in the order of their indices; UserError in one sentence if it is incomplete."""
    alignment = alignment_of("lerobot", options)
    with _Dataset.opened(root, options) as dataset:
        for row in dataset.episodes():
            yield attempt(f"episode_{row['episode_index']}", dataset.read, row, alignment)


@dataclass
class _Dataset:
    """An opened dataset: the parquet file and the video read last stay open for the next episode."""

    root: Path
    options: ReadOptions
    info: dict[str, Any]
    camera: str
    _table: tuple[Path, Any] | None = None
    _video: VideoReader | None = field(default=None, repr=False)

    @classmethod
    def opened(cls, root: Path, options: ReadOptions) -> _Dataset:
        """Reads `meta/info.json` and chooses the camera."""
        info = _read_info(root)
        cameras = [key for key, feature in info["features"].items() if _is_camera(feature)]
        return cls(root, options, info, the_image_key(cameras, options, root))

    def __enter__(self) -> _Dataset:
        return self

    def __exit__(self, *_: object) -> None:
        if self._video is not None:
            self._video.close()

    def episodes(self) -> list[dict[str, Any]]:
        """One row per episode, by index; UserError if there are none, or fewer than `info.json` says."""
        rows: list[dict[str, Any]] = []
        read = ("episode_index", "length", "data/", f"videos/{self.camera}/")
        for path in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            table = read_parquet(path, lambda name: name.startswith(read), MAX_EPISODES)
            with sound(path):
                rows += table.to_pylist()
            if len(rows) > MAX_EPISODES:
                raise UserError(f"{self.root} holds more than {MAX_EPISODES} episodes")
        rows.sort(key=lambda row: _whole(row, "episode_index", self.root))
        if not rows or self.info.get("total_episodes", len(rows)) != len(rows):
            said = self.info.get("total_episodes")
            raise UserError(f"{self.root} is truncated: meta/episodes has {len(rows)} episodes, {INFO} says {said}")
        return rows

    def read(self, row: dict[str, Any], alignment: Convention) -> SourceEpisode:
        """One episode, aligned; UserError in one sentence."""
        index, length = _whole(row, "episode_index", self.root), _whole(row, "length", self.root)
        name = f"episode_{index}"
        path = self._place("data_path", row, "data")
        check_size(length, 3 * self.options.image_size**2, f"{path}: {name}")
        columns = self._columns(path, index, length)
        proprio = [_numbers(columns[key], f"{path}: {key}") for key in self.options.proprio]
        episode = SourceEpisode(
            name=name,
            image=self._pictures(row, columns, length, name),
            action=scaled_actions(_numbers(columns[self._action], f"{path}: {self._action}"), self.options, name),
            reward=_numbers(columns[REWARD], f"{path}: {REWARD}") if REWARD in columns else None,
            proprio=side_by_side(proprio, self.options.proprio, name),
            fps=rate(self.info.get("fps")),
            notes=self._losses(columns),
        )
        return aligned(episode, alignment, self.options)

    def _losses(self, columns: dict[str, list[Any]]) -> tuple[str, ...]:
        if self._in_video:
            return ("video, which is lossy",)
        jpeg = any(cell["bytes"].startswith(JPEG) for cell in columns[self.camera])
        return ("JPEG pictures, which are lossy",) if jpeg else ()

    @property
    def _action(self) -> str:
        return self.options.action or "action"

    @property
    def _in_video(self) -> bool:
        return bool(self.info["features"][self.camera]["dtype"] == "video")

    def _columns(self, path: Path, index: int, length: int) -> dict[str, list[Any]]:
        """The rows of an episode, in the order of their frames; UserError if there are not `length` of them."""
        wanted = {"episode_index", "frame_index", self._action, REWARD, *self.options.proprio}
        wanted |= set() if self._in_video else {self.camera}
        if self._table is None or self._table[0] != path:
            self._table = path, read_parquet(path, lambda column: column in wanted)
        table = self._table[1]
        missing = wanted - {REWARD} - set(table.column_names)
        if missing:
            raise UserError(f"{path} has no column '{min(missing)}'")
        compute = need("pyarrow.compute")
        with sound(path):
            own = table.filter(compute.equal(table["episode_index"], index))
            if own.num_rows != length:
                said = f"{own.num_rows} rows, meta/episodes says {length}"
                raise UserError(f"{path}: episode_{index} is truncated: {said}")
            if not length:
                raise UserError(f"{path}: episode_{index} is empty")
            rows = own.sort_by("frame_index").to_pydict()
        if rows["frame_index"] != list(range(length)):
            raise UserError(f"{path}: the frames of episode_{index} are not numbered 0, 1, 2, …")
        return dict(rows)

    def _pictures(self, row: dict[str, Any], columns: dict[str, list[Any]], length: int, name: str) -> np.ndarray:
        where = f"{self.root}: {name}"
        if not self._in_video:
            cells = columns[self.camera]
            if not all(isinstance(cell, dict) and isinstance(cell.get("bytes"), bytes) for cell in cells):
                raise UserError(f"{where}: the pictures of '{self.camera}' are not kept in the parquet file")
            return np.stack([decoded(cell["bytes"], self.options, where) for cell in cells])
        prefix = f"videos/{self.camera}"
        path = self._place("video_path", row, prefix)
        times = (rate(self.info.get("fps")), row.get(f"{prefix}/from_timestamp"), row.get(f"{prefix}/to_timestamp"))
        if not all(isinstance(value, int | float) and np.isfinite(value) for value in times):
            raise UserError(
                f"{where}: meta/episodes does not say where its video begins and ends, or {INFO} has no fps"
            )
        fps, begin, end = (float(value) for value in times if value is not None)
        if begin < 0 or abs((end - begin) * fps - length) > 0.5:
            raise UserError(f"{where}: its video lasts {end - begin:.3f} s, which at {fps:g} fps are not {length} rows")
        start = round(begin * fps)
        return self._video_at(path, start).read(start, length, self.options)

    def _video_at(self, path: Path, start: int) -> VideoReader:
        if self._video is None or self._video.path != path or self._video.position > start:
            if self._video is not None:
                self._video.close()
            self._video = VideoReader(path)
        return self._video

    def _place(self, template: str, row: dict[str, Any], prefix: str) -> Path:
        """The file that holds an episode's rows or pictures; UserError if its name leads out of the dataset.

        The name is what is not trusted: the file itself may be a link, as all are in the Hugging Face Hub's cache.
        """
        chunk, file = (_whole(row, f"{prefix}/{part}_index", self.root) for part in ("chunk", "file"))
        pattern = str(self.info.get(template))
        # Not str.format: an untrusted template could reach into the objects it is given.
        relative = pattern.replace("{video_key}", self.camera)
        for part, value in (("chunk_index", chunk), ("file_index", file)):
            for slot in re.finditer(rf"\{{{part}(?::0(\d)d)?\}}", pattern):
                relative = relative.replace(slot[0], f"{value:0{slot[1] or 1}d}")
        relative = os.path.normpath(relative)
        if "{" in relative or os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
            raise UserError(f"{self.root / INFO}: {template} '{pattern}' does not lead to a file of the dataset")
        return self.root / relative


def _read_info(root: Path) -> dict[str, Any]:
    path = root / INFO
    info = read_json(path)
    features = info.get("features")
    if not isinstance(features, dict) or not all(
        isinstance(feature, dict) and isinstance(feature.get("dtype"), str) for feature in features.values()
    ):
        raise UserError(f"{path} does not describe the features of a LeRobot dataset")
    version = str(info.get("codebase_version"))
    if not version.startswith("v3."):
        raise UserError(
            f"{root} is a LeRobot dataset of version {version}, v3 is read: python -m "
            "lerobot.scripts.convert_dataset_v21_to_v30 converts v2.1 (--push-to-hub=false keeps it on this machine); "
            "older ones go to v2.1 first, with an older LeRobot"
        )
    return info


def _is_camera(feature: dict[str, Any]) -> bool:
    """Whether a feature holds pictures in colour, and not depth."""
    described = [feature.get(key) for key in ("info", "video_info")]
    depth = any(
        each.get(key) for each in described if isinstance(each, dict) for key in ("is_depth_map", "video.is_depth_map")
    )
    return feature["dtype"] in ("video", "image") and not depth


def _whole(row: dict[str, Any], key: str, root: Path) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**40:
        raise UserError(f"{root}: meta/episodes has {value!r} for '{key}', expected a whole number")
    return value


def _numbers(cells: list[Any], where: str) -> np.ndarray:
    """A column of numbers or of lists of numbers as (T, size), neither of them 0; UserError if it is not one."""
    try:
        values = np.asarray(cells)
    except ValueError as error:
        raise UserError(f"{where} has rows of different lengths") from error
    if values.ndim not in (1, 2) or values.dtype.kind not in "fiu" or not values.size:
        raise UserError(f"{where} does not hold numbers, or one list of them per row")
    return values.reshape(len(values), -1)
