"""The files that a source consists of."""

from __future__ import annotations

import re
from pathlib import Path

from vmil.data.formats.source import MAX_EPISODES
from vmil.errors import UserError

NPZ, HDF5 = (".npz",), (".hdf5", ".h5")


def files_of(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Those in a directory with such a suffix, in upper case or lower, by name, numbers in it by value; a file alone.

    Hidden ones are left out. UserError if there are more than episodes may be.
    """
    if path.is_file():
        return [path]
    found = path.iterdir() if path.is_dir() else ()
    files = [each for each in found if each.suffix.lower() in suffixes and not each.name.startswith(".")]
    if len(files) > MAX_EPISODES:
        raise UserError(f"{path} holds more than {MAX_EPISODES} episodes")
    return sorted(files, key=lambda each: [int(p) if p.isdecimal() else p for p in re.split(r"([0-9]+)", each.name)])
