"""ALOHA's and ACT's HDF5, an episode per file: `observations/images/<camera>` (T, …), `observations/<key>`, `action`.

action[t] was taken at row t of the observations; there is no picture after the last action, and no reward.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmil.data.formats import hdf5
from vmil.data.formats.listing import HDF5, files_of
from vmil.data.formats.source import (
    Convention,
    ReadOptions,
    SourceEpisode,
    Unreadable,
    aligned,
    alignment_of,
    attempt,
    scaled_actions,
)
from vmil.errors import UserError


def is_aloha(path: Path) -> bool:
    """Whether the file has such observations; UserError if it is no HDF5 file."""
    with hdf5.opened(path) as file:
        return hdf5.member(file, "observations/images", str(path)) is not None


def read_aloha(path: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    """The episodes of a directory, or of one file, in the order of the files' names."""
    alignment = alignment_of("aloha", options)
    for file in files_of(path, HDF5):
        yield attempt(file.name, _episode, file, options, alignment)


def _episode(path: Path, options: ReadOptions, alignment: Convention) -> SourceEpisode:
    where = str(path)
    with hdf5.opened(path) as file:
        observations, cameras = (hdf5.member(file, key, where) for key in ("observations", "observations/images"))
        if cameras is None or not hdf5.is_group(cameras):
            raise UserError(f"{where} is not ALOHA's: it has no group observations/images")
        pictures, lossy = hdf5.images(cameras, options, where)
        episode = SourceEpisode(
            name=path.name,
            image=pictures,
            action=scaled_actions(hdf5.array(file, options.action or "action", where), options, where),
            proprio=hdf5.vectors(observations, options.proprio, where),
            notes=("JPEG pictures, which are lossy",) if lossy else (),
        )
        return aligned(episode, alignment, options)
