"""The run's demonstrations: read, checked against the run, drawn with its own camera if they hold physics."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from tqdm import tqdm

from vmil.config.schema import DemosConfig, EnvConfig
from vmil.data.demo_files import find_demos, joint_digest
from vmil.data.ranks import ALONE, Rank
from vmil.data.recording import Recording, read_recording
from vmil.data.replay import Replay
from vmil.data.tensor_files import read_tensors, write_tensors
from vmil.envs.factory import env_info, revisit
from vmil.envs.rendering import renderer_name
from vmil.envs.tasks import COUNTING, find_task
from vmil.errors import UserError
from vmil.system.paths import given_path

log = logging.getLogger(__name__)

CACHE_FORMAT = 2  # raise it when the same settings give other pixels or vectors


def mean_return(recordings: Sequence[Recording]) -> float | None:
    """Mean undiscounted return per demonstration, for reports only; None if the rewards of one are unknown."""
    totals = [recording.total for recording in recordings]
    known = [total for total in totals if total is not None]
    return float(np.mean(known)) if known and len(known) == len(totals) else None


def check_matches(recording: Recording, env: EnvConfig, action_size: int) -> None:
    """UserError if the demonstration is of another task, action size, action repeat or picture than the run's."""
    path, meta = recording.path, recording.meta
    wanted = identity(env.name)
    recorded = {key: meta.get(key) for key in wanted}
    if recorded != wanted:
        raise UserError(f"{path} shows {_join(recorded)}, but env.name={env.name} is {_join(wanted)}")
    if recording.action.shape[1] != action_size:
        raise UserError(f"{path} has {recording.action.shape[1]} action dimensions, env {env.name} has {action_size}")
    if recording.image is not None and recording.image.shape[1:3] != (env.image_size, env.image_size):
        height, width = recording.image.shape[1:3]
        raise UserError(
            f"{path} has images of {height} x {width} pixels, but this run has env.image_size={env.image_size}"
        )
    settings = {
        "action_repeat": env.action_repeat,
        "image_size": env.image_size,
        "render_profile": env.render_profile,
        "camera": env.camera,
    }
    for key, value in settings.items():
        # physics states can be drawn in any way: only demonstrations that hold pixels say more than action_repeat
        if (key == "action_repeat" or key in meta) and str(meta.get(key)) != str(value):
            raise UserError(f"{path} was recorded with {key}={meta.get(key)}, but this run has env.{key}={value}")


def identity(env: str) -> dict[str, str]:
    """What names the task in a demonstration's meta: an alias and its long name share demonstrations."""
    task = find_task(env)
    return {"env": env} if task.family is COUNTING else {"domain": task.domain, "task": task.task}


def _join(names: dict[str, Any]) -> str:
    return "-".join(str(name) for name in names.values())


class Demonstrations:
    """The expert's episodes, as pixels, in a `Replay` of their own."""

    mean_return: float | None  # the expert's score, for reports only

    def __init__(self, replay: Replay, recordings: list[Recording]) -> None:
        self.replay = replay
        self.mean_return = mean_return(recordings)
        self.digest = joint_digest(recording.digest for recording in recordings)
        self._lengths = {recording.path: len(recording.action) for recording in recordings}

    def check_length(self, batch_length: int, lead_in: int) -> None:
        """UserError if a demonstration is shorter than a training sequence, and so could never be seen.

        lead_in: steps of a sequence that may lie before the demonstration begins.
        """
        needed = batch_length - lead_in
        for path, steps in self._lengths.items():
            if steps < needed:
                raise UserError(
                    f"{path} has {steps} agent steps, fewer than the {needed} that "
                    f"training.batch_length={batch_length} needs"
                )

    def check_rewards(self) -> None:
        """UserError if the rewards of a demonstration are unknown: for the one switch that trains on them."""
        if self.mean_return is None:
            raise UserError("debug.use_ground_truth_reward=true needs demonstrations whose rewards are known")

    def state_dict(self) -> dict[str, Any]:
        """What was imitated, and the sampler's random state."""
        return {"digest": self.digest, "generator": self.replay.generator_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """UserError if the checkpoint's run imitated other demonstrations."""
        if state["digest"] != self.digest:
            raise UserError("the demonstrations are not those that the checkpoint's run imitates")
        self.replay.set_generator_state(state["generator"])


def load_demonstrations(
    env: EnvConfig,
    demos: DemosConfig,
    seed: int,
    sampling_seed: int,
    rank: Rank = ALONE,
    device: torch.device | None = None,
) -> Demonstrations:
    """Reads, checks and renders (or finds in the cache) the run's demonstrations; UserError says what is wrong.

    Each of several ranks sees its share of them, or all where there are fewer than ranks. device: where they are kept,
    as `Replay` has it.
    """
    info = env_info(env)
    recordings = [read_recording(path) for path in find_demos(env.name, demos, seed)]
    for recording in recordings:
        check_matches(recording, env, info.action_size)
    capacity = sum(len(recording.action) for recording in recordings)
    replay = Replay(capacity, info.frames_per_step, sampling_seed, device=device)
    cache = given_path("demos.cache_dir", demos.cache_dir)
    watched = tqdm(recordings, "rendering demonstrations", leave=False, disable=None)
    shards = rank.count if len(recordings) >= rank.count else 1
    for index, recording in enumerate(watched):
        if index % shards != rank.index % shards:
            continue
        replay.extend(_episode(recording, observations(recording, env, info.proprio_size, cache), index))
    return Demonstrations(replay, recordings)


def observations(recording: Recording, env: EnvConfig, proprio_size: int, cache: Path) -> dict[str, Tensor]:
    """What the expert saw: image (T or T + 1, H, W, 3) uint8 and, if `env.proprio`, proprio (same, P) float32.

    UserError if `env.proprio` is asked of a demonstration that has none.
    """
    if recording.image is None:
        return _render_cached(recording, env, cache)
    seen = {"image": torch.from_numpy(recording.image)}
    if env.proprio:
        vectors = recording.proprio
        if vectors is None:
            raise UserError(f"{recording.path} holds images but no proprio, which env.proprio=true needs")
        if vectors.shape[1] != proprio_size:
            raise UserError(
                f"{recording.path} has {vectors.shape[1]} numbers of proprio, env {env.name} has {proprio_size}"
            )
        seen["proprio"] = torch.from_numpy(vectors.astype(np.float32))
    return seen


def _episode(recording: Recording, seen: dict[str, Tensor], index: int) -> TensorDict:
    """What `Replay` stores; the last observation, if it has no action, is left out."""
    steps = len(recording.action)
    reward = np.zeros(steps) if recording.reward is None else recording.reward
    t = torch.arange(steps)
    episode = {key: value[:steps] for key, value in seen.items()}
    episode |= {"action": torch.from_numpy(recording.action.astype(np.float32))}
    episode |= {"reward": torch.from_numpy(reward.astype(np.float32))}
    episode |= {"t": t, "is_first": t == 0, "episode": torch.full((steps,), index)}
    return TensorDict(episode, [steps])


def _renderer(env: EnvConfig) -> list[str]:
    """What draws the pixels: another OpenGL or simulator draws others."""
    packages = find_task(env.name).family.packages
    return [renderer_name(), *map(importlib.metadata.version, packages)] if packages else []


def _render_cached(recording: Recording, env: EnvConfig, cache: Path) -> dict[str, Tensor]:
    """image (T + 1, H, W, 3) uint8 and perhaps proprio (T + 1, P) float32."""
    assert recording.physics is not None
    settings = [env.name, env.image_size, env.camera, env.render_profile, env.proprio, *_renderer(env), CACHE_FORMAT]
    key = hashlib.sha256(json.dumps([recording.digest, *settings]).encode()).hexdigest()[:24]
    path = cache / "demos" / f"{env.name.replace(':', '_')}-{key}.safetensors.gz"
    if path.exists():
        try:
            return read_tensors(path)
        except UserError:
            log.warning("%s is damaged and is drawn anew", path)
    try:
        images, vectors = revisit(env, recording.physics, recording.action)
    except UserError as error:
        raise UserError(f"{recording.path}: {error}") from error
    pixels = {"image": torch.from_numpy(images)}
    if vectors is not None:
        pixels["proprio"] = torch.from_numpy(vectors)
    try:
        write_tensors(path, pixels)
    except UserError as error:
        raise UserError(f"{error}; demos.cache_dir chooses another place") from error
    return pixels
