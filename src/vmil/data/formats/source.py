"""What every format is read into, and what a person may say about a source that its files do not.

The one thing that readers exist for is alignment (data/transition.py has the picture). Two conventions are in use::

    at        action[t] was taken at image[t]     robomimic, ALOHA, Minari, LeRobot, and inside vmil
    led_to    action[t] led to image[t]           Dreamer's .npz episodes: action[0] is zero, nobody took it

A layout does not settle it: LIBERO's files are robomimic's with led_to, and begin with an action that was taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, ParamSpec

import numpy as np
from einops import rearrange
from PIL import Image

from vmil.config.schema_cli import Alignment, FormatName, Resize
from vmil.data.recording import read_bounded
from vmil.errors import UserError

P = ParamSpec("P")

MAX_SOURCE_BYTES = 2**30  # of one array of one episode, unpacked
MAX_EPISODES = 10_000  # whose names still sort in four digits
MAX_RATE = 1e6  # steps a second
MAX_PIXELS = 4096 * 4096  # of one picture
MAX_JSON_BYTES = 16 * 2**20  # of a file that describes a source

Convention = Literal["at", "led_to"]
CONVENTIONS: dict[FormatName, Convention] = {
    "npz": "led_to", "robomimic": "at", "aloha": "at", "minari": "at", "lerobot": "at",
}  # fmt: skip


@dataclass(frozen=True)
class ReadOptions:
    """What a person says about the source."""

    image_size: int  # pixels, square: env.image_size
    image: str | None = None  # the array that holds the pictures; null: the only one that does
    action: str | None = None  # the array of the actions; null: as the format calls it
    proprio: tuple[str, ...] = ()  # arrays that are concatenated into the vector observation
    alignment: Alignment = "auto"  # auto: the format's own
    resize: Resize = "none"  # stretch: to the square; crop: to the centre's square, then to size
    action_low: tuple[float, ...] | None = None  # what the source's actions call -1: one number, or one per dimension
    action_high: tuple[float, ...] | None = None  # and 1; null: they lie in [-1, 1] already


@dataclass(frozen=True)
class SourceEpisode:
    """One episode as it was found, after alignment: action[t] was taken at image[t]."""

    name: str  # where it was found, such as `demo_3`
    image: np.ndarray  # (T or T + 1, H, W, 3) uint8
    action: np.ndarray  # (T, A) float32
    reward: np.ndarray | None = None  # (T,) float32; reward[t] followed action[t]
    proprio: np.ndarray | None = None  # (T or T + 1, P) float32, a row per image
    physics: np.ndarray | None = None  # (T or T + 1, S) float64, a row per image
    fps: float | None = None  # agent steps a second; None: its source does not say
    notes: tuple[str, ...] = ()  # what a person should know

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a demonstration keeps of it, as far as there is any."""
        held = {name: getattr(self, name) for name in ("image", "action", "reward", "proprio", "physics")}
        return {name: array for name, array in held.items() if array is not None}


@dataclass(frozen=True)
class Unreadable:
    """An episode that cannot be read or aligned; others of its source may be fine."""

    name: str
    error: UserError


def attempt(
    name: str, read: Callable[P, SourceEpisode], *args: P.args, **kwargs: P.kwargs
) -> SourceEpisode | Unreadable:
    """What `read` returns for an episode, or the UserError that it raises."""
    try:
        return read(*args, **kwargs)
    except UserError as error:
        return Unreadable(name, error)


def alignment_of(format: FormatName, options: ReadOptions) -> Convention:
    """The alignment that `options` name, or the format's own."""
    return CONVENTIONS[format] if options.alignment == "auto" else options.alignment


def aligned(episode: SourceEpisode, alignment: Convention, options: ReadOptions) -> SourceEpisode:
    """The episode with action[t] taken at image[t], from one whose arrays have as many rows as they were stored with.

    UserError if shapes or numbers of rows do not fit, or `led_to` was only assumed and action[0] is not the zero that
    nobody took.
    """
    episode = _shaped(episode)
    images, actions = len(episode.image), len(episode.action)
    if episode.reward is not None and len(episode.reward) != actions:
        raise UserError(f"{episode.name} has {actions} actions but {len(episode.reward)} rewards")
    for what in ("proprio", "physics"):
        rows = getattr(episode, what)
        if rows is not None and len(rows) != images:
            raise UserError(f"{episode.name} has {images} images but {len(rows)} rows of {what}")
    if alignment == "at":
        if images - actions not in (0, 1):
            raise UserError(
                f"{episode.name} has {images} images and {actions} actions: there must be as many, or one more"
            )
        return episode
    elif alignment == "led_to":
        if images != actions:
            raise UserError(
                f"{episode.name} has {images} images and {actions} actions: where action[t] led to image[t] "
                "there are as many; alignment=at reads actions that were taken at their image"
            )
        taken = actions > 0 and not is_idle(episode.action[0], options)  # its own image was not recorded
        if taken and options.alignment == "auto":
            raise UserError(
                f"{episode.name}: action[0] is not zero, as Dreamer's is: if action[t] was taken at image[t], say "
                "alignment=at; if it led to image[t] all the same, alignment=led_to"
            )
        reward = None if episode.reward is None else episode.reward[1:]
        notes = (*episode.notes, "action[0] was not zero and is left out") if taken else episode.notes
        return replace(episode, action=episode.action[1:], reward=reward, notes=notes)
    else:
        raise ValueError(alignment)


def is_idle(action: np.ndarray, options: ReadOptions) -> bool:
    """Whether a scaled action (A,) was exactly zero in its file, as an action that nobody took is."""
    return np.array_equal(action, scaled_actions(np.zeros_like(action[None]), options, "")[0])


def _shaped(episode: SourceEpisode) -> SourceEpisode:
    """With rewards (T,) float32, proprio (N, P) float32, physics (N, S) float64; UserError for other shapes."""
    reward, proprio, physics = episode.reward, episode.proprio, episode.physics
    if reward is not None and (not reward.ndim or reward.size != len(reward)):
        raise UserError(f"{episode.name}: reward is of shape {reward.shape}, expected (T,)")
    for what, rows in (("proprio", proprio), ("physics", physics)):
        if rows is not None and rows.ndim != 2:
            raise UserError(f"{episode.name}: {what} is of shape {rows.shape}, expected a row of numbers per image")
    return replace(
        episode,
        reward=None if reward is None else reward.reshape(-1).astype(np.float32),
        proprio=None if proprio is None else proprio.astype(np.float32),
        physics=None if physics is None else physics.astype(np.float64),
    )


def side_by_side(columns: Sequence[np.ndarray], keys: Sequence[str], where: str) -> np.ndarray | None:
    """Several arrays (N,) or (N, P) side by side: (N, P) float32; None for none. UserError if they do not fit."""
    if not columns:
        return None
    if any(column.ndim not in (1, 2) for column in columns) or len({len(column) for column in columns}) != 1:
        shapes = ", ".join(str(column.shape) for column in columns)
        raise UserError(f"{where}: {', '.join(keys)} of shapes {shapes} do not fit side by side")
    flat = [column.reshape(len(column), math.prod(column.shape[1:])) for column in columns]
    return np.concatenate(flat, axis=1).astype(np.float32)


def scaled_actions(action: np.ndarray, options: ReadOptions, name: str) -> np.ndarray:
    """Actions (T, A) in [-1, 1] by the range that `options` give, or as they are; UserError if they do not fit."""
    if action.ndim != 2 or action.dtype.kind not in "fiu":
        raise UserError(f"{name}: actions are {action.dtype} of {action.ndim} dimensions, expected numbers (T, A)")
    if options.action_low is None and options.action_high is None:
        return action.astype(np.float32)
    if options.action_low is None or options.action_high is None:
        raise UserError("action_low and action_high belong together: give both or neither")
    try:
        low, high = (
            np.broadcast_to(np.array(side), action.shape[1:]) for side in (options.action_low, options.action_high)
        )
    except ValueError as error:
        raise UserError(
            f"{name} has {action.shape[1]} action dimensions: action_low and action_high need 1 or as many"
        ) from error
    if not (low < high).all():
        raise UserError("action_low must be below action_high in every dimension")
    return (2 * (action.astype(np.float64) - low) / (high - low) - 1).astype(np.float32)


def checked_images(array: np.ndarray, options: ReadOptions, name: str) -> np.ndarray:
    """Pictures (N, H, W, 3) uint8 of the run's size, from those of a source, also (N, 3, H, W).

    UserError if they are no pictures, or of another size and `options.resize` does not say what to do about it.
    """
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
        array = rearrange(array, "n c h w -> n h w c")
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape[1:] or array.dtype != np.uint8:
        raise UserError(f"{name}: images are {array.dtype} of shape {array.shape}, expected uint8 (N, H, W, 3)")
    if not len(array) or array.shape[1:3] == (options.image_size, options.image_size):
        return np.ascontiguousarray(array)
    return np.stack([resized(picture, options, name) for picture in array])


def resized(picture: np.ndarray, options: ReadOptions, name: str) -> np.ndarray:
    """One picture (H, W, 3) uint8 at the run's size, antialiased; UserError unless `options.resize` asks for it."""
    height, width = picture.shape[:2]
    size = options.image_size
    if (height, width) == (size, size):
        return picture
    if options.resize == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        picture = picture[top : top + side, left : left + side]
    elif options.resize == "none":
        raise UserError(
            f"{name}: images are {height} x {width} pixels, the run's are {size} x {size} (env.image_size): "
            "say resize=stretch, or resize=crop for the square in the centre"
        )
    elif options.resize != "stretch":
        raise ValueError(options.resize)
    # Pillow widens the filter with the scale, which is what antialiases.
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file that describes a source; UserError if it holds none, or is too large for one."""
    try:
        content = json.loads(read_bounded(path, MAX_JSON_BYTES, otherwise=""))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is corrupt or truncated") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def check_size(count: int, itemsize: int, name: str) -> None:
    """UserError if an array of a source would take more memory than any episode should."""
    if count < 0 or count * itemsize > MAX_SOURCE_BYTES:
        raise UserError(f"{name} unpacks to more than {MAX_SOURCE_BYTES >> 20} MiB and is not read")


def rate(value: object) -> float | None:
    """Steps a second as a source states them; None if that is not a positive number of a possible size."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_RATE:
        return None
    return float(value)


def the_image_key(found: list[str], options: ReadOptions, where: Path | str) -> str:
    """The array of pictures that `options.image` names, or the only one there is; UserError names those there are."""
    if options.image is not None:
        if options.image not in found:
            raise UserError(f"{where} has no images '{options.image}' (it has: {', '.join(found) or 'none'})")
        return options.image
    if len(found) != 1:
        named = f"several: image=<one of {', '.join(found)}> chooses" if found else "none"
        raise UserError(f"{where} should hold images (uint8, three channels), but has {named}")
    return found[0]
