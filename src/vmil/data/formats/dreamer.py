"""Dreamer's directories of `.npz` episodes, where action[t] led to image[t]: how V-MAIL's authors distribute theirs.

One file per episode: `image` (T, H, W, 3) uint8 · `action` (T, A), action[0] zero · `reward`, `discount` (T,), of the
step that led to image[t]. Other arrays with T rows may be vector observations. DreamerV3 and RLDS, whose steps are also
saved as .npz, are `at`, and mark with `is_first` and `is_last` (T,) where episodes begin and end.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vmil.data.formats.listing import NPZ, files_of
from vmil.data.formats.source import (
    MAX_SOURCE_BYTES,
    Convention,
    ReadOptions,
    SourceEpisode,
    Unreadable,
    aligned,
    alignment_of,
    attempt,
    checked_images,
    scaled_actions,
    side_by_side,
)
from vmil.data.recording import check_archive, read_bounded
from vmil.errors import UserError, first_line
from vmil.system.files import write_atomically

BOUNDS = ("is_first", "is_last")  # of episodes, in steps
_TOO_LARGE = ", more than is read of one episode: lower the resolution of its images first"


def read_dreamer(directory: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    """The episodes of a directory, one file at a time, in the order of their names."""
    alignment = alignment_of("npz", options)
    for path in files_of(directory, NPZ):
        yield attempt(path.name, _episode, path, options, alignment)


def _episode(path: Path, options: ReadOptions, alignment: Convention) -> SourceEpisode:
    arrays = _read(path, options)
    episode = SourceEpisode(
        name=path.name,
        image=checked_images(arrays["image"], options, path.name),
        action=scaled_actions(arrays["action"], options, path.name),
        reward=arrays.get("reward"),
        proprio=side_by_side([arrays[key] for key in options.proprio], options.proprio, path.name),
        physics=arrays.get("physics"),
    )
    if alignment == "at" and arrays["is_last"][-1:].any():
        episode = _without_last_action(episode)
    return aligned(episode, alignment, options)


def _without_last_action(episode: SourceEpisode) -> SourceEpisode:
    """The episode without what is stored beside its last picture, at which nobody acted: DreamerV3 has zeros there.

    The reward goes with it. RLDS calls it invalid; DreamerV3's is of the action before, and missing from the return.
    """
    if not 0 < len(episode.action) == len(episode.image):
        return episode
    reward = episode.reward[:-1] if episode.reward is not None and episode.reward.ndim else episode.reward
    notes = (*episode.notes, "its last action, which is_last says nobody took, is left out")
    return replace(episode, action=episode.action[:-1], reward=reward, notes=notes)


def _read(path: Path, options: ReadOptions) -> dict[str, np.ndarray]:
    """The arrays that are used, and `BOUNDS` even where the file has none."""
    payload = read_bounded(path, MAX_SOURCE_BYTES, _TOO_LARGE)
    try:
        check_archive(payload, MAX_SOURCE_BYTES, _TOO_LARGE)
        with np.load(io.BytesIO(payload), allow_pickle=False) as file:
            wanted = {"image": options.image or "image", "action": options.action or "action"}
            if wanted["image"] not in file.files:
                raise UserError(
                    f"{path} has no images '{wanted['image']}': image=<one of {', '.join(file.files)}> names them"
                )
            wanted |= {key: key for key in ("reward", "physics", *BOUNDS) if key in file.files}
            wanted |= {key: key for key in options.proprio}
            missing = set(wanted.values()) - set(file.files)
            if missing:
                raise UserError(f"{path} has no '{min(missing)}' (it has: {', '.join(file.files)})")
            arrays = {name: _plain(file, key) for name, key in wanted.items()}
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path} {error}") from error
    except Exception as error:  # a damaged archive can raise anything: zlib, struct, tokenize, memory
        raise UserError(f"{path} is corrupt or truncated: {first_line(error)}") from error
    for name in ("reward", *options.proprio, "physics"):
        if name in arrays and arrays[name].dtype.kind not in "fiu":
            raise UserError(f"{path}: {name} is {arrays[name].dtype}, expected numbers")
    return arrays | _bounds(arrays, path)


def _bounds(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """`BOUNDS` as (T,) bool, or (0,) where there are none; UserError if an episode begins or ends within the file."""
    bounds = {}
    for name in BOUNDS:
        array = arrays.get(name, np.zeros(0, bool))
        if array.dtype.kind not in "fiub":
            raise UserError(f"{path}: {name} is {array.dtype}, expected truth values")
        bounds[name] = array.reshape(-1).astype(bool)
    if bounds["is_first"][1:].any() or bounds["is_last"][:-1].any():
        raise UserError(f"{path} holds several episodes: save one per file, cut where is_first")
    return bounds


def _plain(file: Any, key: str) -> np.ndarray:
    """An array of an opened archive; UserError, without the file's name, if unpickling it would be needed."""
    try:
        return np.asarray(file[key])
    except ValueError as error:
        if not str(error).startswith("Object arrays"):
            raise
        raise UserError(f"keeps '{key}' as pickled objects, which are never executed: save a plain array") from error


def write_dreamer(path: Path, episode: SourceEpisode) -> None:
    """Writes one episode with action[t] beside the image it led to; UserError if it has no last image.

    Besides Dreamer's own arrays come `proprio` and `physics` where the episode has them; other readers pass them over.
    `reward` is left out where it is unknown.
    """
    if len(episode.image) != len(episode.action) + 1:
        raise UserError(f"{episode.name} has no image after its last action, which this format cannot say")
    reward = None if episode.reward is None else np.concatenate([np.zeros(1, np.float32), episode.reward])
    arrays: dict[str, np.ndarray | None] = {
        "image": episode.image,
        "action": np.concatenate([np.zeros_like(episode.action[:1]), episode.action]),
        "reward": reward,
        "discount": np.ones(len(episode.image), np.float32),
        "proprio": episode.proprio,
        "physics": episode.physics,
    }
    file = io.BytesIO()
    known = {name: array for name, array in arrays.items() if array is not None}
    np.savez_compressed(file, **known)  # type: ignore[arg-type]
    write_atomically(path, file.getvalue())
