"""Demonstrations: physics states and actions on disk, rendered to pixels with the run's own camera and cached."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import io
import json
import logging
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from tensordict import TensorDict
from torch import Tensor

from vmil.config.errors import UserError
from vmil.config.schema import DemosConfig, EnvConfig
from vmil.data.episodes import read_tensors, write_tensors
from vmil.data.replay import Replay
from vmil.envs.factory import env_info, proprio_of_states, render_states
from vmil.envs.rendering import choose_backend
from vmil.envs.tasks import SIMULATORS, find_task

log = logging.getLogger(__name__)

FORMAT = 1
CACHE_FORMAT = 1  # raise it when the same settings draw other pixels
MAX_BYTES = 256 * 2**20  # a demonstration larger than this, packed or unpacked, is not one
MAX_STEPS = 100_000


@dataclass(frozen=True)
class Recording:
    """One demonstration as it lies on disk, checked."""

    path: Path
    digest: str  # SHA-256 of the file
    physics: np.ndarray  # (T + 1, S) float64
    action: np.ndarray  # (T, A) float32
    reward: np.ndarray  # (T,) float32, for scores only
    meta: dict[str, Any]


def find_demos(env: str, demos: DemosConfig, seed: int) -> list[Path]:
    """The `demos.count` files of this run, drawn by `seed`; UserError if there are fewer."""
    if demos.path is not None:
        directory = Path(demos.path).expanduser()
    else:
        directory = Path(str(importlib.resources.files("vmil"))) / "assets" / env / "demos"
        if not directory.is_dir():
            raise UserError(f"no demonstrations are shipped for env {env}: give demos.path=<directory of demo_*.npz>")
    if not directory.is_dir():
        raise UserError(f"demos.path={directory} is not a directory")
    paths = sorted(directory.glob("demo_*.npz"))
    if not 1 <= demos.count <= len(paths):
        raise UserError(f"demos.count={demos.count}, but {directory} has {len(paths)} demonstrations (demo_*.npz)")
    chosen = np.random.default_rng(seed).choice(len(paths), demos.count, replace=False)
    return [paths[index] for index in sorted(chosen)]


def read_recording(path: Path) -> Recording:
    """Reads one demo_*.npz; UserError in one sentence if it is not a whole, sound demonstration."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES >> 20} MiB and is no demonstration")
        payload = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        arrays = _unpack(payload)
        meta = json.loads(str(arrays.pop("meta")[()]))
    except KeyError as error:
        raise UserError(f"{path} is no demonstration: {error.args[0]}") from error
    except UserError as error:
        raise UserError(f"{path} {error}") from error
    except Exception as error:  # a damaged archive raises what it likes: zlib, struct, tokenize, memory
        raise UserError(f"{path} is corrupt or truncated") from error
    if not isinstance(meta, dict):
        raise UserError(f"{path} is no demonstration: its meta is not a JSON object")
    recording = Recording(path=path, digest=hashlib.sha256(payload).hexdigest(), meta=meta, **arrays)
    _check_arrays(recording)
    return recording


def _unpack(payload: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
            raise UserError(f"unpacks to more than {MAX_BYTES >> 20} MiB and is no demonstration")
    with np.load(io.BytesIO(payload), allow_pickle=False) as file:
        return {name: file[name] for name in ("physics", "action", "reward", "meta")}


def _check_arrays(recording: Recording) -> None:
    path, steps = recording.path, len(recording.action) if recording.action.ndim else 0
    if recording.meta.get("format") != FORMAT:
        raise UserError(f"{path} has demonstration format {recording.meta.get('format')!r}, not {FORMAT}")
    for name, array, ndim in (
        ("physics", recording.physics, 2),
        ("action", recording.action, 2),
        ("reward", recording.reward, 1),
    ):
        if array.ndim != ndim or array.dtype.kind != "f":
            raise UserError(f"{path}: {name} is {array.dtype} of {array.ndim} dimensions, expected float of {ndim}")
        if not np.isfinite(array).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values")
    if not 1 <= steps <= MAX_STEPS or len(recording.physics) != steps + 1 or len(recording.reward) != steps:
        raise UserError(
            f"{path} is truncated: {steps} actions need {steps + 1} physics states and {steps} rewards, "
            f"it has {len(recording.physics)} and {len(recording.reward)}"
        )
    if np.abs(recording.action).max() > 1 + 1e-5:
        raise UserError(f"{path}: actions lie outside [-1, 1]")


def check_matches(recording: Recording, env: EnvConfig, action_size: int) -> None:
    """UserError if the demonstration is of another task, action size, action repeat or picture than the run's."""
    path, meta = recording.path, recording.meta
    task = find_task(env.name)
    wanted = {"env": env.name} if task.family == "counting" else {"domain": task.domain, "task": task.task}
    recorded = {key: meta.get(key) for key in wanted}
    if recorded != wanted:
        raise UserError(f"{path} shows {_join(recorded)}, but env.name={env.name} is {_join(wanted)}")
    if recording.action.shape[1] != action_size:
        raise UserError(f"{path} has {recording.action.shape[1]} action dimensions, env {env.name} has {action_size}")
    settings = {
        "action_repeat": env.action_repeat,
        "image_size": env.image_size,
        "render_profile": env.render_profile,
        "camera": env.camera,
    }
    for key, value in settings.items():
        # physics states can be drawn in any way: only demonstrations that once were pixels say more than action_repeat
        if (key == "action_repeat" or key in meta) and str(meta.get(key)) != str(value):
            raise UserError(f"{path} was recorded with {key}={meta.get(key)}, but this run has env.{key}={value}")


def _join(names: dict[str, Any]) -> str:
    return "-".join(str(name) for name in names.values())


class Demonstrations:
    """The expert's episodes, as pixels, in a `Replay` of their own."""

    def __init__(self, replay: Replay, recordings: list[Recording]) -> None:
        self.replay = replay
        self.returns = [float(recording.reward.sum()) for recording in recordings]
        self.digest = hashlib.sha256("".join(recording.digest for recording in recordings).encode()).hexdigest()
        self._lengths = {recording.path: len(recording.action) for recording in recordings}

    @property
    def mean_return(self) -> float:
        """The expert's score: mean undiscounted return per demonstration, for reports only."""
        return float(np.mean(self.returns))

    def sample(self, batch: int, length: int) -> TensorDict:
        """Slices (B, T, ...) as `Replay.sample`."""
        return self.replay.sample(batch, length)

    def check_length(self, length: int) -> None:
        """UserError if a demonstration is shorter than a training sequence, and so could never be seen."""
        for path, steps in self._lengths.items():
            if steps < length:
                raise UserError(f"{path} has {steps} agent steps, fewer than training.batch_length={length}")

    def state_dict(self) -> dict[str, Any]:
        """What was imitated, and the sampler's random state."""
        return {"digest": self.digest, "generator": self.replay.generator_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """UserError if the checkpoint's run imitated other demonstrations."""
        if state["digest"] != self.digest:
            raise UserError("the demonstrations are not those that the checkpoint's run imitates")
        self.replay.set_generator_state(state["generator"])


def load_demonstrations(env: EnvConfig, demos: DemosConfig, seed: int, sampling_seed: int) -> Demonstrations:
    """Reads, checks and renders (or finds in the cache) the run's demonstrations; UserError says what is wrong."""
    info = env_info(env)
    recordings = [read_recording(path) for path in find_demos(env.name, demos, seed)]
    for recording in recordings:
        check_matches(recording, env, info.action_size)
    capacity = sum(len(recording.action) for recording in recordings)
    replay = Replay(capacity, info.frames_per_step, sampling_seed)
    watched = track(recordings, "rendering demonstrations", transient=True, disable=not sys.stdout.isatty())
    for index, recording in enumerate(watched):
        pixels = _render_cached(recording, env, Path(demos.cache_dir).expanduser())
        steps = len(recording.action)
        t = torch.arange(steps)
        episode = {key: value[:steps] for key, value in pixels.items()}
        episode |= {"action": torch.from_numpy(recording.action.astype(np.float32))}
        episode |= {"reward": torch.from_numpy(recording.reward.astype(np.float32))}
        episode |= {"t": t, "is_first": t == 0, "episode": torch.full((steps,), index)}
        replay.extend(TensorDict(episode, [steps]))
    return Demonstrations(replay, recordings)


def _renderer(env: EnvConfig) -> list[str]:
    """What draws the pixels: another OpenGL or simulator draws others."""
    packages = SIMULATORS[find_task(env.name).family]
    return [choose_backend(), *map(importlib.metadata.version, packages)] if packages else []


def _render_cached(recording: Recording, env: EnvConfig, cache: Path) -> dict[str, Tensor]:
    """image (T + 1, H, W, 3) uint8 and perhaps proprio (T + 1, P) float32."""
    settings = [env.name, env.image_size, env.camera, env.render_profile, env.proprio, *_renderer(env), CACHE_FORMAT]
    key = hashlib.sha256(json.dumps([recording.digest, *settings]).encode()).hexdigest()[:24]
    path = cache / "demos" / f"{env.name.replace(':', '_')}-{key}.safetensors.gz"
    if path.exists():
        try:
            return read_tensors(path)
        except UserError:
            log.warning("%s is damaged and is drawn anew", path)
    try:
        pixels = {"image": torch.from_numpy(render_states(env, recording.physics))}
        if env.proprio:
            pixels["proprio"] = torch.from_numpy(proprio_of_states(env, recording.physics))
    except UserError as error:
        raise UserError(f"{recording.path}: {error}") from error
    try:
        write_tensors(path, pixels)
    except UserError as error:
        raise UserError(f"{error}; demos.cache_dir chooses another place") from error
    return pixels
