"""Which format a source is in, and the reader of each."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from vmil.config.schema_cli import FormatName
from vmil.data.formats.aloha import is_aloha, read_aloha
from vmil.data.formats.dreamer import read_dreamer
from vmil.data.formats.lerobot import INFO, read_lerobot
from vmil.data.formats.listing import HDF5, NPZ, files_of
from vmil.data.formats.minari import MAIN_FILE, find_minari, read_minari
from vmil.data.formats.robomimic import read_robomimic
from vmil.data.formats.source import ReadOptions, SourceEpisode, Unreadable
from vmil.errors import UserError
from vmil.system.paths import user_path

_LOOKED_FOR = (
    "a directory of .npz episodes (npz), .hdf5 files or a directory of them (robomimic, aloha), "
    "a Minari dataset or its id (minari), "
    f"or a directory with {INFO} (lerobot)"
)


def detect(source: str, format: FormatName) -> tuple[FormatName, Path]:
    """The format of a source, and the path to read; UserError if it is unknown, or missing."""
    try:
        return _detect(source, format)
    except OSError as error:  # a name that is too long, a directory that may not be entered
        raise UserError(f"src={source} cannot be read: {error.strerror or error}") from error


def _detect(source: str, format: FormatName) -> tuple[FormatName, Path]:
    path = user_path("src", source)
    minari = find_minari(source)
    if minari is not None and (format == "minari" or (format == "auto" and _is_minari(minari))):
        return "minari", minari
    if not path.exists():
        raise UserError(f"src={source} is neither a file nor a directory, nor the id of a Minari dataset on this disk")
    guessed = _guess(path) if format == "auto" else format
    hdf5 = bool(files_of(path, HDF5))
    fits = {"npz": path.is_dir(), "robomimic": hdf5, "aloha": hdf5, "lerobot": (path / INFO).is_file(), "minari": False}
    if guessed is None or guessed == "auto" or not fits[guessed]:
        said = "" if format == "auto" else f" not in the format {format}, or"
        raise UserError(f"src={source} is{said} none of what can be imported: {_LOOKED_FOR}")
    if guessed == "npz":
        _check_episodes(path)
    return guessed, path


def _is_minari(directory: Path) -> bool:
    """Whether its metadata are Minari's: .npz episodes may lie beside a file of the same name."""
    return (directory / MAIN_FILE).is_file() or not files_of(directory, NPZ)


def _guess(path: Path) -> FormatName | None:
    if (path / INFO).is_file():
        return "lerobot"
    files = files_of(path, HDF5)
    if not files or (path.is_dir() and files_of(path, NPZ)):
        return "npz" if path.is_dir() else None
    if files[0].suffix.lower() not in HDF5:
        return None
    return "aloha" if is_aloha(files[0]) else "robomimic"


def _check_episodes(directory: Path) -> None:
    names = [path.name for path in files_of(directory, NPZ)]
    if not names:
        raise UserError(f"src={directory} holds no .npz episode, nor anything else that can be imported: {_LOOKED_FOR}")
    if all(name.startswith("demo_") for name in names) and _is_ours(directory / min(names)):
        raise UserError(
            f"src={directory} holds demonstrations of vmil already: train on them with demos.path={directory}"
        )


def _is_ours(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def read_episodes(format: FormatName, path: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    """The episodes of a source, one at a time; UserError in one sentence for what is wrong with the whole of it."""
    if format == "npz":
        return read_dreamer(path, options)
    elif format == "robomimic":
        return read_robomimic(path, options)
    elif format == "aloha":
        return read_aloha(path, options)
    elif format == "minari":
        return read_minari(path, options)
    elif format == "lerobot":
        return read_lerobot(path, options)
    else:
        raise ValueError(format)
