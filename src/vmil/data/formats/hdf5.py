"""Untrusted HDF5 files, read with h5py: hard links only, sizes bounded before anything is read."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vmil.data.formats.source import (
    MAX_PIXELS,
    MAX_SOURCE_BYTES,
    ReadOptions,
    check_size,
    checked_images,
    resized,
    side_by_side,
    the_image_key,
)
from vmil.errors import UserError, first_line

JPEG = b"\xff\xd8"  # how such a file begins
MAX_PICTURE = 3 * MAX_PIXELS  # bytes of a compressed picture: more than it has uncompressed
BLOCK = 64 * 2**20  # bytes of pictures that are unpacked at once, before they are resized
DEPTH = 4  # of groups within a group of observations


def need(module: str) -> Any:
    """Imports a library that only foreign formats need; UserError names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise UserError(
            f"this format needs {name}, which is not installed: pip install 'vmil[formats]' brings it"
        ) from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An `h5py.File` for reading, which is `sound`."""
    h5py = need("h5py")
    with sound(path), h5py.File(path, "r") as file:
        yield file


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Whatever h5py cannot make sense of becomes a UserError that names the file."""
    try:
        yield
    except UserError:
        raise
    except (
        OSError,
        KeyError,
        ValueError,
        RuntimeError,
        TypeError,
        MemoryError,
        AttributeError,
        OverflowError,
    ) as error:
        raise UserError(f"{path} is corrupt or truncated, or no HDF5 file: {first_line(error)}") from error


def member(group: Any, key: str, where: str) -> Any:
    """The group or dataset `key`, perhaps `a/b`, of a group; None if there is none. UserError for a link elsewhere."""
    h5py = need("h5py")
    node = group
    for part in filter(None, key.split("/")):  # h5py itself would follow a link on the way
        link = node.get(part, getlink=True) if is_group(node) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{where}: '{key}' is a link to elsewhere, which is not followed")
        node = node[part]
    return node


def is_group(node: Any) -> bool:
    """Whether a member is a group, and not an array."""
    return isinstance(node, need("h5py").Group)


def array(group: Any, key: str, where: str) -> np.ndarray:
    """An array of numbers, bounded in size; UserError if it is missing, not numeric, or in another file."""
    dataset = member(group, key, where)
    if dataset is None or is_group(dataset):
        raise UserError(f"{where} has no array '{key}'")
    _check_local(dataset, where)
    check_size(dataset.size, dataset.dtype.itemsize, f"{where}: {key}")
    if dataset.dtype.kind not in "fiub":
        raise UserError(f"{where}: {key} is {dataset.dtype}, expected numbers")
    return np.asarray(dataset[()])


def _check_local(dataset: Any, where: str) -> None:
    if dataset.external or dataset.is_virtual:
        raise UserError(f"{where}: '{dataset.name}' keeps its content in another file, which is not read")
    if dataset.shape is None:
        raise UserError(f"{where}: '{dataset.name}' is empty")
    plan = dataset.id.get_create_plist()
    for code, _, _, name in (plan.get_filter(index) for index in range(plan.get_nfilters())):
        if not need("h5py").h5z.filter_avail(code):  # HDF5 itself says only where it looked
            called = f" ({name[:40].decode('ascii', 'replace')!r})" if name else ""
            raise UserError(
                f"{where}: '{dataset.name}' needs HDF5's filter {code}{called}, which is not installed: "
                "write it with gzip, or uncompressed"
            )


def image_keys(group: Any, where: str) -> list[str]:
    """The members of a group, or of groups within it as `a/b`, that hold pictures.

    Those are uint8 (N, H, W, 3) or (N, 3, H, W), or rows of JPEG bytes.
    """
    keys, groups, known = [], [("", group)], {group}  # hard links can lead in circles
    while groups:
        prefix, parent = groups.pop(0)
        for name in parent:
            key, node = prefix + name, member(parent, name, where)
            if not is_group(node):
                keys += [key] if _is_pictures(node) else []
            elif node not in known and key.count("/") < DEPTH:
                known.add(node)
                groups.append((f"{key}/", node))
    return keys


def _is_pictures(node: Any) -> bool:
    if not hasattr(node, "shape") or node.shape is None:
        return False
    if len(node.shape) == 4:
        return bool(node.dtype == np.uint8 and 3 in (node.shape[3], node.shape[1]))
    return _is_jpeg(node)


def _is_jpeg(dataset: Any) -> bool:
    if math.prod(dataset.chunks or ()) > MAX_SOURCE_BYTES:  # to look at two bytes unpacks a chunk
        return False
    lines = need("h5py").check_vlen_dtype(dataset.dtype)
    if len(dataset.shape) == 1 and lines == np.uint8 and len(dataset):
        return bytes(dataset[0][:2]) == JPEG
    if len(dataset.shape) == 2 and dataset.dtype == np.uint8 and len(dataset) and dataset.shape[1] > 2:
        return bytes(dataset[0, :2]) == JPEG
    return False


def images(group: Any, options: ReadOptions, where: str) -> tuple[np.ndarray, bool]:
    """The pictures (N, H, W, 3) of a group of observations at the run's size, and whether they were JPEG: lossy."""
    key = the_image_key(image_keys(group, where), options, where)
    dataset = member(group, key, where)
    _check_local(dataset, where)
    check_size(len(dataset), 3 * options.image_size**2, f"{where}: {key}")
    if not _is_jpeg(dataset):
        return _resized_in_blocks(dataset, options, where, f"{where}: {key}"), False
    if len(dataset.shape) == 2:
        check_size(dataset.size, 1, f"{where}: {key}")
    pictures = [decoded(bytes(row), options, where) for row in dataset]
    return np.stack(pictures), True


def _resized_in_blocks(dataset: Any, options: ReadOptions, where: str, what: str) -> np.ndarray:
    """Pictures of any size at the run's: only as many are in memory unresized as `BLOCK`, or a row of chunks, holds."""
    picture, chunks = math.prod(dataset.shape[1:]), dataset.chunks or (1,)
    check_size(picture, 1, f"{what}: a picture")
    check_size(math.prod(chunks), 1, f"{what}: a chunk")  # HDF5 unpacks it whole
    picture = max(1, picture)  # bytes
    # Whole chunks, lest one be unpacked twice; fewer pictures where a row of chunks is too much.
    whole = chunks[0] * max(1, BLOCK // (picture * chunks[0]))
    count = max(1, min(whole, MAX_SOURCE_BYTES // picture))
    starts = range(0, max(1, len(dataset)), count)  # a block at least, which says what is wrong with it
    return np.concatenate([checked_images(dataset[start : start + count], options, where) for start in starts])


def decoded(payload: bytes, options: ReadOptions, where: str) -> np.ndarray:
    """One compressed picture (JPEG or PNG) at the run's size; UserError if it is no picture, or absurdly large."""
    if len(payload) > MAX_PICTURE:
        raise UserError(f"{where}: a picture of {len(payload) >> 20} MiB is not read")
    try:
        with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise UserError(f"{where}: a picture of {picture.width} x {picture.height} pixels is not read")
            pixels = np.asarray(picture.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders can raise anything
        raise UserError(f"{where}: a picture is corrupt or truncated") from error
    return resized(pixels, options, where)


def vectors(group: Any, keys: Sequence[str], where: str) -> np.ndarray | None:
    """Several arrays (N,) or (N, P) side by side: (N, P) float32; None for no key."""
    return side_by_side([array(group, key, where) for key in keys], keys, where)
