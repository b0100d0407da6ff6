"""robomimic's HDF5: `data/demo_<i>` holds `obs/<key>` (T, …), `actions`, `rewards`, `dones`, maybe `next_obs/<key>`.

actions[t] was taken at obs[t]. The picture after the last action is the last of `next_obs`, where that was kept. The
attribute `env_args` of `data` is JSON, whose `env_kwargs` are the simulator's: robosuite's have the rate of actions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

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
    rate,
    scaled_actions,
)
from vmil.errors import UserError


def read_robomimic(path: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    """The episodes of a file, or of all files in a directory, in the order of names and numbers.

    UserError in one sentence if a file is not robomimic's.
    """
    for file in files_of(path, HDF5):
        for episode in _read_file(file, options):
            yield episode if path.is_file() else replace(episode, name=f"{file.name}: {episode.name}")


def _read_file(path: Path, options: ReadOptions) -> Iterator[SourceEpisode | Unreadable]:
    alignment = alignment_of("robomimic", options)
    with hdf5.opened(path) as file:
        data = hdf5.member(file, "data", str(path))
        names = [name for name in data or () if re.fullmatch(r"demo_\d+", name)]
        if not names:
            raise UserError(
                f"{path} is neither robomimic's (no group data/demo_0) nor ALOHA's (no observations/images)"
            )
        fps = _rate(data.attrs.get("env_args"))
        for name in sorted(names, key=lambda name: int(name.removeprefix("demo_"))):
            episode = attempt(name, _episode, data, options, path, name, alignment)
            yield replace(episode, fps=fps) if isinstance(episode, SourceEpisode) else episode


def _rate(env_args: object) -> float | None:
    """Agent steps a second, from JSON that may be anything; None if it does not say."""
    try:
        content = json.loads(env_args) if isinstance(env_args, str | bytes) else None
    except (ValueError, RecursionError):
        return None
    settings = content.get("env_kwargs") if isinstance(content, dict) else None
    return rate(settings.get("control_freq")) if isinstance(settings, dict) else None


def _episode(data: Any, options: ReadOptions, path: Path, name: str, alignment: Convention) -> SourceEpisode:
    with hdf5.sound(path):
        demo = hdf5.member(data, name, f"{path}: {name}")
        return aligned(_read(demo, options, path, name), alignment, options)


def _read(demo: Any, options: ReadOptions, path: Path, name: str) -> SourceEpisode:
    where = f"{path}: {name}"
    if not hdf5.is_group(demo):
        raise UserError(f"{where} is not a group")
    pictures, proprio, lossy = _observations(demo, "obs", options, where)
    action = scaled_actions(hdf5.array(demo, options.action or "actions", where), options, where)
    notes = ["JPEG pictures, which are lossy"] if lossy else []
    if (
        options.alignment != "led_to"
        and hdf5.member(demo, "next_obs", where) is not None
        and len(pictures) == len(action)
    ):
        last, last_proprio, _ = _observations(demo, "next_obs", options, where)
        if len(last) != len(pictures):
            raise UserError(f"{where}: obs and next_obs have {len(pictures)} and {len(last)} images")
        pictures = np.concatenate([pictures, last[-1:]])
        if proprio is not None and last_proprio is not None:
            proprio = np.concatenate([proprio, last_proprio[-1:]])
    declared = demo.attrs.get("num_samples")
    if declared is not None and int(declared) != len(action):
        raise UserError(f"{where} is truncated: num_samples is {int(declared)}, it has {len(action)} actions")
    rewards = hdf5.member(demo, "rewards", where)
    return SourceEpisode(
        name=name,
        image=pictures,
        action=action,
        reward=None if rewards is None else hdf5.array(demo, "rewards", where),
        proprio=proprio,
        notes=tuple(notes),
    )


def _observations(demo: Any, key: str, options: ReadOptions, where: str) -> tuple[np.ndarray, np.ndarray | None, bool]:
    """Pictures (T, H, W, 3) of the run's size, vectors (T, P) if asked for, and whether the pictures were JPEG."""
    group = hdf5.member(demo, key, where)
    if group is None or not hdf5.is_group(group):
        raise UserError(f"{where} has no '{key}': robomimic's dataset_states_to_obs adds images to a file of states")
    pictures, lossy = hdf5.images(group, options, where)
    return pictures, hdf5.vectors(group, options.proprio, where), lossy
