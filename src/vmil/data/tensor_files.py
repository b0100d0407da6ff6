"""Tensors on disk, with their digest beside them, written so that a kill never leaves half a file."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vmil.errors import UserError
from vmil.system.files import write_atomically

_DIGEST = "sha256"
MAX_BYTES = 2**30  # unpacked; an episode of 1000 steps at 256 x 256 pixels is a fifth of it
_PIECE = 2**22  # bytes unpacked at a time
_LEVEL = 1  # of gzip: pictures shrink to a sixth in 60 ms per episode of 500; more levels cost more than they save


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of names, types, shapes and contents, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], digest: str | None = None) -> None:
    """Writes tensors, compressed; `digest` spares working it out again.

    Raises UserError as `write_atomically`, and if they are too large to be read again.
    """
    content = {name: tensor.contiguous() for name, tensor in tensors.items()}
    size = sum(tensor.nbytes for tensor in content.values())
    if size > 0.95 * MAX_BYTES:  # the rest is for the header
        raise UserError(f"{path.name} would hold {size / 2**20:.0f} MiB, an episode {MAX_BYTES >> 20} MiB at the most")
    stamp = bytes.fromhex(digest or tensor_digest(tensors))
    content[_DIGEST] = torch.from_numpy(np.frombuffer(stamp, np.uint8).copy())
    write_atomically(path, gzip.compress(save(content), _LEVEL, mtime=0))


def read_tensors(path: Path, digest: str | None = None) -> dict[str, Tensor]:
    """Reads what `write_tensors` wrote and checks it, also against `digest` if that is known.

    Raises UserError if the file is missing, damaged, or not the one of that digest.
    """
    try:
        content = load(_unpacked(path))
        stamp = content.pop(_DIGEST).numpy().tobytes().hex()
        actual = tensor_digest(content)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except (
        OSError,
        EOFError,
        zlib.error,
        SafetensorError,
        KeyError,
        ValueError,
        TypeError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise UserError(f"{path} is corrupt or truncated") from error
    if actual != stamp:
        raise UserError(f"{path} is corrupt: its content does not have its digest")
    if digest is not None and actual != digest:
        raise UserError(f"{path} is not the file that the checkpoint was made with")
    return content


def _unpacked(path: Path) -> bytes:
    """A few packed bytes can stand for any number of others: ValueError beyond `MAX_BYTES`."""
    pieces, size = list[bytes](), 0
    with gzip.open(path) as file:
        while piece := file.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
    return b"".join(pieces)
