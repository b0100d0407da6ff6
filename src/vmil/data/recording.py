"""One demonstration on disk, `demo_*.npz`: what it holds, and every way in which it can be wrong.

Two kinds, told apart by `format` in their `meta`. T actions, A their size, S the physics state's, P proprio's::

    1 physics   physics (T + 1, S) float64 · action (T, A) float32 · reward (T,) float32
                drawn with the run's own camera when it is used
    2 images    image (T or T + 1, H, W, 3) uint8 · action (T, A) float32 · maybe reward (T,) float32,
                and proprio (P) and physics (S) in as many rows as there are images

`meta` is a JSON object in a 0-dimensional text array. action[t] was taken **at** row t; a row T + 1 has no action.
Arrays are plain (no pickle), compressed without loss, and bounded in size.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vmil.errors import UserError
from vmil.system.files import write_atomically

PHYSICS, IMAGES = 1, 2  # the values of meta's `format`
CONVERSION = ("alignment", "resize", "action_low", "action_high", "proprio")  # what an import was told, in meta
MAX_BYTES = 256 * 2**20  # a demonstration larger than this, packed or unpacked, is not one
MAX_STEPS = 100_000

_NEEDED = {PHYSICS: ("physics", "action", "reward"), IMAGES: ("image", "action")}
_OPTIONAL: dict[int, tuple[str, ...]] = {PHYSICS: (), IMAGES: ("reward", "proprio", "physics")}
_DIMENSIONS = {"physics": 2, "action": 2, "reward": 1, "proprio": 2, "image": 4}


@dataclass(frozen=True)
class Recording:
    """One demonstration as it lies on disk, checked."""

    path: Path
    digest: str  # SHA-256 of the file
    meta: dict[str, Any]
    action: np.ndarray  # (T, A) float32
    reward: np.ndarray | None = None  # (T,) float32, for scores only; None: unknown
    physics: np.ndarray | None = None  # (T + 1, S) float64, or a row per image
    image: np.ndarray | None = None  # (T or T + 1, H, W, 3) uint8; None: drawn from physics
    proprio: np.ndarray | None = None  # (T or T + 1, P) float32

    @property
    def total(self) -> float | None:
        """The undiscounted return; None if the rewards are unknown."""
        return None if self.reward is None else float(self.reward.sum())


def read_recording(path: Path) -> Recording:
    """Reads one demo_*.npz; UserError in one sentence if it is not a complete, valid demonstration."""
    payload = read_bounded(path)
    try:
        arrays, meta = _unpack(payload)
    except KeyError as error:
        raise UserError(f"{path} is no demonstration: {error.args[0]}") from error
    except UserError as error:
        raise UserError(f"{path} {error}") from error
    except Exception as error:  # a damaged archive can raise anything: zlib, struct, tokenize, memory
        raise UserError(f"{path} is corrupt or truncated") from error
    recording = Recording(path=path, digest=hashlib.sha256(payload).hexdigest(), meta=meta, **arrays)
    _check_arrays(recording)
    _check_lengths(recording)
    return recording


def write_recording(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Writes one demonstration, whole or not at all; UserError if the disk refuses or it is too large to be read."""
    reason = too_large(arrays)
    if reason is not None:
        raise UserError(f"{path.name} {reason}")
    file = io.BytesIO()
    np.savez_compressed(file, **dict(arrays), meta=np.array(json.dumps(dict(meta))))  # type: ignore[arg-type]
    write_atomically(path, file.getvalue())


def too_large(arrays: Mapping[str, np.ndarray]) -> str | None:
    """Why these arrays are more than one demonstration may hold, without its name; None if they are not."""
    size = sum(array.nbytes for array in arrays.values())
    if size <= 0.95 * MAX_BYTES:  # the rest is for headers
        return None
    return f"would unpack to {size / 2**20:.0f} MiB, a demonstration to {MAX_BYTES >> 20} MiB at the most"


def read_bounded(path: Path, limit: int = MAX_BYTES, otherwise: str = " and is no demonstration") -> bytes:
    """A file's bytes; UserError, which ends in `otherwise`, if it cannot be read or is larger than `limit`."""
    try:
        if path.stat().st_size > limit:
            raise UserError(f"{path} is larger than {limit >> 20} MiB{otherwise}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def check_archive(payload: bytes, limit: int = MAX_BYTES, otherwise: str = " and is no demonstration") -> None:
    """UserError, without the file's name and ending in `otherwise`, if an archive unpacks to more than `limit`."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > limit:
            raise UserError(f"unpacks to more than {limit >> 20} MiB{otherwise}")


def _unpack(payload: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    check_archive(payload)
    with np.load(io.BytesIO(payload), allow_pickle=False) as file:
        meta = json.loads(str(file["meta"][()]))
        if not isinstance(meta, dict):
            raise UserError("is no demonstration: its meta is not a JSON object")
        kind = meta.get("format")
        if not isinstance(kind, int) or kind not in _NEEDED:
            raise UserError(f"has demonstration format {kind!r}, not {PHYSICS} or {IMAGES}")
        names = [*_NEEDED[kind], *(name for name in _OPTIONAL[kind] if name in file.files)]
        return {name: file[name] for name in names}, meta


def _arrays(recording: Recording) -> dict[str, np.ndarray]:
    held = {name: getattr(recording, name) for name in _DIMENSIONS}
    return {name: array for name, array in held.items() if array is not None}


def _check_arrays(recording: Recording) -> None:
    path = recording.path
    for name, array in _arrays(recording).items():
        kind, ndim = ("uint8" if name == "image" else "float"), _DIMENSIONS[name]
        fits = array.dtype == np.uint8 if name == "image" else array.dtype.kind == "f"
        if array.ndim != ndim or not fits:
            raise UserError(f"{path}: {name} is {array.dtype} of {array.ndim} dimensions, expected {kind} of {ndim}")
        if name != "image" and not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values")
    if recording.image is not None and recording.image.shape[3] != 3:
        raise UserError(f"{path}: image has {recording.image.shape[3]} channels, expected 3")
    if recording.action.size and np.abs(recording.action).max() > 1 + 1e-5:
        raise UserError(f"{path}: actions lie outside [-1, 1]")


def _check_lengths(recording: Recording) -> None:
    path, steps = recording.path, len(recording.action)
    rewards = steps if recording.reward is None else len(recording.reward)
    rows = {name: len(array) for name, array in _arrays(recording).items() if name not in ("action", "reward")}
    if steps > MAX_STEPS:
        raise UserError(f"{path} has {steps} steps, more than the {MAX_STEPS} that a demonstration may have")
    if recording.image is None:
        if steps < 1 or rows["physics"] != steps + 1 or rewards != steps:
            raise UserError(
                f"{path} is truncated: {steps} actions need {steps + 1} physics states and {steps} rewards, "
                f"it has {rows['physics']} and {rewards}"
            )
    elif steps < 1 or rows["image"] - steps not in (0, 1) or rewards != steps:
        raise UserError(
            f"{path} is truncated: {steps} actions need {steps} or {steps + 1} images and {steps} rewards, "
            f"it has {rows['image']} and {rewards}"
        )
    elif len(set(rows.values())) > 1:
        raise UserError(f"{path} is truncated: {rows} should be the same number of rows")
