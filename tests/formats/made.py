"""Counting episodes in every format, written by the format's own library where there is one.

Picture t of episode e says (e, t), and so does action t: whoever shifts one of them is found out.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from PIL import Image

from vmil.data.recording import Recording
from vmil.envs.counting import encode
from vmil.errors import UserError

Bring = Callable[..., tuple[list[Recording], str]]

EPISODES, STEPS, SIZE = 3, 12, 64
Picture = Callable[[int, int], np.ndarray]


def exact(episode: int, t: int) -> np.ndarray:
    """The counting environment's own picture."""
    return encode(episode, t, SIZE)


def grey(episode: int, t: int) -> np.ndarray:
    """A picture whose count survives a lossy codec."""
    return np.full((SIZE, SIZE, 3), 20 + 17 * t, np.uint8)


def pictures(episode: int, count: int, picture: Picture = exact) -> np.ndarray:
    """Pictures 0, 1, … of an episode."""
    return np.stack([picture(episode, t) for t in range(count)])


def actions(episode: int) -> np.ndarray:
    """Action t, taken at picture t, says so: (STEPS, 1) in (-1, 1), never zero."""
    return np.array([[(episode * STEPS + t + 1) / 64] for t in range(STEPS)], np.float32)


def rewards(episode: int) -> np.ndarray:
    """(STEPS,): reward t followed action t."""
    return (100 * episode + np.arange(STEPS)).astype(np.float32)


def proprio(episode: int, count: int) -> np.ndarray:
    """What the counting environment's vector says: (episode, t)."""
    return np.array([[episode, t] for t in range(count)], np.float32)


def make_npz(directory: Path, **changes: Any) -> Path:
    """Dreamer's episodes: action[t] led to image[t]; `changes` replace arrays of the second."""
    directory.mkdir(parents=True)
    for episode in range(EPISODES):
        arrays: dict[str, Any] = {
            "image": pictures(episode, STEPS + 1),
            "action": np.concatenate([np.zeros((1, 1), np.float32), actions(episode)]),
            "reward": np.concatenate([np.zeros(1, np.float32), rewards(episode)]),
            "discount": np.ones(STEPS + 1, np.float32),
            "proprio": proprio(episode, STEPS + 1),
        }
        arrays |= changes if episode == 1 else {}
        np.savez_compressed(directory / f"2020010{episode}T000000-abc-{STEPS + 1}.npz", **arrays)
    return directory


def make_robomimic(path: Path, next_obs: bool = True, **changes: Any) -> Path:
    """robomimic's file, as its documentation has it; `changes` replace arrays of demo_1."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = EPISODES * STEPS
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_type": 1, "env_kwargs": {}})
        for episode in range(EPISODES):
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = STEPS
            seen, vectors = pictures(episode, STEPS + 1), proprio(episode, STEPS + 1)
            arrays = {
                "obs/agentview_image": seen[:-1],
                "obs/robot0_eef_pos": vectors[:-1],
                "actions": actions(episode).astype(np.float64),
                "rewards": rewards(episode).astype(np.float64),
                "dones": (np.arange(STEPS) == STEPS - 1).astype(np.int64),
            }
            if next_obs:
                arrays |= {"next_obs/agentview_image": seen[1:], "next_obs/robot0_eef_pos": vectors[1:]}
            arrays |= changes if episode == 1 else {}
            for key, value in arrays.items():
                demo.create_dataset(key, data=value)
    return path


def make_minari(
    root: Path,
    monkeypatch: Any,
    jpeg: bool = False,
    flat: bool = False,
    picture: Picture = exact,
    nested: bool = False,
) -> str:
    """A dataset that Minari itself wrote, under the root that it would look in; returns its id.

    flat: pictures alone; nested: spaces within spaces, with two cameras; else a space of pictures and a vector.
    """
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    box = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
    vector = spaces.Box(-1e3, 1e3, (2,))
    seen: spaces.Space[Any] = box if flat else spaces.Dict({"pixels": box, "pos": vector})
    if nested:
        cameras = spaces.Dict({"top": box, "wrist": spaces.Tuple((box,))})
        seen = spaces.Dict({"pixels": cameras, "arm": spaces.Dict({"pos": vector})})
    buffers = []
    for episode in range(EPISODES):
        images, vectors = pictures(episode, STEPS + 1, picture), proprio(episode, STEPS + 1)
        observed: Any = images if flat else {"pixels": images, "pos": vectors}
        if nested:
            observed = {"pixels": {"top": images, "wrist": (images[::-1],)}, "arm": {"pos": vectors}}
        buffers.append(
            EpisodeBuffer(
                observations=observed,
                actions=actions(episode),
                rewards=rewards(episode),
                terminations=np.zeros(STEPS, bool),
                truncations=np.arange(STEPS) == STEPS - 1,
            )
        )
    space = spaces.Box(-1, 1, (1,), np.float32)
    with warnings.catch_warnings(action="ignore"):  # it misses an author
        minari.create_dataset_from_buffers(
            "counting/test-v0", buffers, observation_space=seen, action_space=space, jpeg_encoding=jpeg
        )
    return "counting/test-v0"


LOSSLESS = {"codec": "libx264rgb", "pix_fmt_out": "rgb24", "output_params": ["-qp", "0"]}
AV1 = {"codec": "libsvtav1", "pix_fmt_out": "yuv420p", "output_params": ["-crf", "30"]}  # LeRobot's own choice


def make_lerobot(
    root: Path, video: dict[str, Any] | None = None, picture: Picture = exact, codec: str = "PNG", **info: Any
) -> Path:
    """A v3.0 dataset as LeRobot lays it out: episodes 0 and 1 share files, episode 2 has its own.

    video: how to encode; None: pictures in the rows, as PNG unless `codec` says otherwise. `info`: of info.json.
    """
    camera, files = "observation.images.front", {0: 0, 1: 0, 2: 1}
    frames: dict[int, list[np.ndarray]] = {0: [], 1: []}
    rows: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
    episodes = []
    for episode, file in files.items():
        begin = len(frames[file])
        frames[file] += list(pictures(episode, STEPS, picture))
        rows[file] += [_row(episode, t, picture, camera, codec if video is None else None) for t in range(STEPS)]
        row: dict[str, Any] = {"episode_index": episode, "tasks": ["count"], "length": STEPS}
        row |= {"data/chunk_index": 0, "data/file_index": file, "stats/action/mean": [0.0]}
        row |= {"dataset_from_index": episode * STEPS, "dataset_to_index": (episode + 1) * STEPS}
        if video is not None:
            row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": file}
            row |= {f"videos/{camera}/from_timestamp": begin / 10}
            row |= {f"videos/{camera}/to_timestamp": (begin + STEPS) / 10}
        episodes.append(row)
    for file, table in rows.items():
        _parquet(root / f"data/chunk-000/file-{file:03d}.parquet", table)
        if video is not None:
            write_video(root / f"videos/{camera}/chunk-000/file-{file:03d}.mp4", frames[file], video)
    _parquet(root / "meta/episodes/chunk-000/file-000.parquet", episodes)
    kind = {"dtype": "image" if video is None else "video", "shape": [SIZE, SIZE, 3]}
    content: dict[str, Any] = {
        "codebase_version": "v3.0",
        "total_episodes": EPISODES,
        "fps": 10,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {"action": {"dtype": "float32", "shape": [1]}, camera: kind},
    }
    (root / "meta/info.json").write_text(json.dumps(content | info))
    return root


def _row(episode: int, t: int, picture: Picture, camera: str, inside: str | None) -> dict[str, Any]:
    row = {"action": actions(episode)[t].tolist(), "next.reward": float(rewards(episode)[t])}
    row |= {"observation.state": [float(episode), float(t)], "timestamp": t / 10}
    row |= {"frame_index": t, "episode_index": episode, "index": episode * STEPS + t, "task_index": 0}
    if inside:
        file = io.BytesIO()
        Image.fromarray(picture(episode, t)).save(file, format=inside)
        row[camera] = {"bytes": file.getvalue(), "path": f"frame-{t:06d}.png"}
    return row


def _parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_video(path: Path, frames: list[np.ndarray], how: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = imageio_ffmpeg.write_frames(
        str(path), (SIZE, SIZE), fps=10, macro_block_size=1, quality=None, ffmpeg_log_level="error", **how
    )
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def refused(bring: Bring, source: object, **options: Any) -> str:
    """The one line with which the import of a source ends."""
    with pytest.raises(UserError) as error:
        bring(source, **options)
    assert "\n" not in str(error.value)
    return str(error.value)
