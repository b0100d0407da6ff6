"""torch's own archives on disk: read only once checked, bounded by the file's size, and nothing in them is executed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from vmil.errors import first_line
from vmil.system.files import write_atomically


def write_archive(path: Path, content: dict[str, Any]) -> None:
    """Writes what `read_archive` reads, whole or not at all; UserError if the disk refuses."""
    file = io.BytesIO()  # torch's own file writer does not say why it failed
    torch.save(content, file)
    write_atomically(path, file.getbuffer())


def read_archive(path: Path) -> dict[str, Any]:
    """What `write_archive` wrote there: a dict of tensors and plain values, on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is truncated, damaged, or something else.
    """
    try:
        # torch reads mapped tensors without looking at their checksums.
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("torch compresses nothing, and this would unpack to any size")
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} does not have its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict):
            raise ValueError("it holds no dict")
    except FileNotFoundError:
        raise
    except Exception as error:  # damaged archives can raise anything
        raise ValueError(f"'{path}' cannot be read: {first_line(error)}") from error
    return content
