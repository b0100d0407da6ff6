"""The episodes of a run's replay on disk: one file each, beside the checkpoints that list them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmil.errors import UserError

_SUFFIX = ".safetensors.gz"


def episode_file(directory: Path, episode: int) -> Path:
    """Where an episode of that number lies."""
    return directory / f"episode_{episode:06d}{_SUFFIX}"


def stored_episodes(directory: Path) -> list[Path]:
    """The files of a run's episodes, oldest first."""
    return sorted(directory.glob("episode_*" + _SUFFIX))


def numbers_stored(directory: Path) -> set[int]:
    """The episodes that have a file there."""
    names = (path.name.partition(".")[0].removeprefix("episode_") for path in stored_episodes(directory))
    return {int(name) for name in names if name.isdigit()}


def stored_bytes(directory: Path) -> int:
    """What the episodes that checkpoints have put there take of the disk."""
    return sum(path.stat().st_size for path in stored_episodes(directory))


def check_manifest(manifest: dict[str, Any]) -> None:
    """UserError unless every episode lies within the capacity that the manifest names."""
    capacity = manifest["capacity"]
    places = [(entry["episode"], entry["start"], entry["length"]) for entry in manifest["shelves"]]
    numbers = [capacity, manifest["cursor"], *(number for place in places for number in place)]
    if not all(isinstance(number, int) and number >= 0 for number in numbers) or not all(
        length > 0 and start + length <= capacity for _, start, length in places
    ):
        raise UserError("the checkpoint's list of episodes is damaged")
