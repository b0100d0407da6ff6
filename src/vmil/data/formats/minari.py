"""Minari's HDF5 datasets: `episode_<i>` holds T + 1 observations, T actions, rewards, terminations and truncations.

Read without Minari, because its loader imports whatever environment the metadata names. Written with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vmil.data.formats import hdf5
from vmil.data.formats.source import (
    Convention,
    ReadOptions,
    SourceEpisode,
    Unreadable,
    aligned,
    alignment_of,
    attempt,
    read_json,
    scaled_actions,
)
from vmil.errors import UserError
from vmil.system.paths import user_path

MAIN_FILE, METADATA = "main_data.hdf5", "metadata.json"
PHYSICS = "physics_state"  # ours, in `infos`


def find_minari(source: str) -> Path | None:
    """The data directory of a Minari dataset: of a path to one, or of an id that is on this disk already."""
    root = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    given = user_path("src", source)
    for directory in (given, given / "data", root / source / "data"):
        if (directory / METADATA).is_file() and directory.is_dir():
            return directory
    return None


def read_minari(directory: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    """The episodes of a dataset, in the order of their numbers; UserError in one sentence if it is incomplete."""
    alignment = alignment_of("minari", options)
    if not (directory / MAIN_FILE).is_file():
        raise UserError(f"{directory} has no {MAIN_FILE}: of Minari's formats, only HDF5 is read")
    with hdf5.opened(directory / MAIN_FILE) as file:
        names = [name for name in file if re.fullmatch(r"episode_\d+", name)]
        expected = read_json(directory / METADATA).get("total_episodes")
        if not names or (isinstance(expected, int) and expected != len(names)):
            raise UserError(f"{directory} is truncated: it has {len(names)} episodes, its metadata says {expected}")
        for name in sorted(names, key=lambda name: int(name.removeprefix("episode_"))):
            yield attempt(name, _episode, file, options, directory / MAIN_FILE, name, alignment)


def _episode(file: Any, options: ReadOptions, path: Path, name: str, alignment: Convention) -> SourceEpisode:
    where = f"{path}: {name}"
    with hdf5.sound(path):
        return aligned(_read(hdf5.member(file, name, where), options, where, name), alignment, options)


def _read(group: Any, options: ReadOptions, where: str, name: str) -> SourceEpisode:
    if not hdf5.is_group(group):
        raise UserError(f"{where} is not a group")
    observations = hdf5.member(group, "observations", where)
    if observations is None:
        raise UserError(f"{where} has no observations")
    holder = observations if hdf5.is_group(observations) else group
    chosen = options if hdf5.is_group(observations) else ReadOptions(**{**vars(options), "image": "observations"})
    pictures, lossy = hdf5.images(holder, chosen, where)
    infos = hdf5.member(group, "infos", where)
    physics = infos is not None and hdf5.is_group(infos) and hdf5.member(infos, PHYSICS, where) is not None
    return SourceEpisode(
        name=name,
        image=pictures,
        action=scaled_actions(hdf5.array(group, options.action or "actions", where), options, where),
        reward=hdf5.array(group, "rewards", where),
        proprio=hdf5.vectors(holder, options.proprio, where),
        physics=hdf5.array(infos, PHYSICS, where) if physics else None,
        notes=("JPEG pictures, which are lossy: Minari's jpeg_encoding was on",) if lossy else (),
    )


def write_minari(directory: Path, episodes: Iterator[SourceEpisode], dataset_id: str, about: Sequence[str]) -> int:
    """Writes a dataset that `minari.MinariDataset(directory / "data")` opens; returns the number of episodes.

    Pictures are stored as they are (`jpeg_encoding=False`: the default is lossy). UserError if the disk refuses, or an
    episode has no image after its last action or no rewards.
    """
    minari, storages = hdf5.need("minari"), hdf5.need("minari.dataset.minari_storage")
    storage, count = None, 0
    for episode in episodes:
        _check_writable(episode)
        if storage is None:
            observed, acted = _spaces(episode)
            (directory / "data").mkdir(parents=True)
            storage = storages.MinariStorage.new(directory / "data", observed, acted, jpeg_encoding=False)
        storage.update_episodes([_buffer(episode)])
        count += 1
    if storage is None:
        raise UserError("there is no episode to export")
    storage.update_metadata(
        {
            "dataset_id": dataset_id,
            "minari_version": minari.__version__,
            "algorithm_name": "expert",
            "description": " ".join(about),
        }
    )
    return count


def _check_writable(episode: SourceEpisode) -> None:
    if len(episode.image) != len(episode.action) + 1:
        raise UserError(f"{episode.name} has no image after its last action, which this format demands")
    if episode.reward is None:
        raise UserError(f"{episode.name} has no rewards, which this format demands")


def _spaces(episode: SourceEpisode) -> tuple[Any, Any]:
    spaces = hdf5.need("gymnasium").spaces
    seen = {"image": spaces.Box(0, 255, episode.image.shape[1:], np.uint8)}
    if episode.proprio is not None:
        seen["proprio"] = spaces.Box(-np.inf, np.inf, episode.proprio.shape[1:], np.float32)
    return spaces.Dict(seen), spaces.Box(-1.0, 1.0, episode.action.shape[1:], np.float32)


def _buffer(episode: SourceEpisode) -> Any:
    steps = len(episode.action)
    seen = {"image": episode.image}
    if episode.proprio is not None:
        seen["proprio"] = episode.proprio
    infos = {} if episode.physics is None else {PHYSICS: episode.physics}
    truncated = np.arange(steps) == steps - 1
    return hdf5.need("minari.data_collector").EpisodeBuffer(
        observations=seen,
        actions=episode.action,
        rewards=episode.reward,
        terminations=np.zeros(steps, bool),
        truncations=truncated,
        infos=infos or None,
    )
