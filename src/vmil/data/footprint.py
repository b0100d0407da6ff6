"""What a run will take in memory and on disk, and whether the machine has it."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from vmil.config.learners import collects
from vmil.config.schema import Config, EnvConfig
from vmil.data.demo_files import available_demos
from vmil.envs.factory import EnvInfo
from vmil.errors import UserError
from vmil.system.machine import available_memory

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.6  # of the free memory that the replay may fill; networks and their activations need the rest
_BYTES_BESIDES = 4 + 8 + 8 + 1 + 1  # float32 reward, int64 episode and t, bool is_first and terminated
SCRATCH = "scratch"  # in the checkpoints' replay directory: a replay that memory has no room for


@dataclass(frozen=True)
class Footprint:
    """Bytes, at the most, that the data of a run take: the filled replay and the demonstrations."""

    replay_bytes: int  # on disk as much, before compression, which saves most of it: pictures shrink to a sixth or so
    demo_bytes: int


def replay_steps(config: Config) -> int:
    """Capacity of a rank's replay in agent steps: whole episodes, and no more than the run's budget can collect."""
    training, episode = config.training, collected_env(config, config.training.frames).episode_frames
    collected = math.ceil(training.frames / training.frames_per_epoch) * training.frames_per_epoch
    ranks = config.compute.devices * config.compute.nodes
    episodes = max(1, min(training.replay_frames, collected) // episode // ranks)
    return episodes * (episode // config.env.action_repeat)


def collected_env(config: Config, frames: int) -> EnvConfig:
    """What is played by a run that has collected so many frames: the task, with episodes as short as it then asks.

    An agent that lies on the floor for a whole scored episode sees one thing a thousand times; a new start, another.
    One that no longer does so must see what comes later in an episode.
    """
    training, longest = config.training, config.env.episode_frames
    if training.whole_episodes_from and frames >= training.whole_episodes_from:
        return config.env
    return replace(config.env, episode_frames=min(training.episode_frames or longest, longest))


def step_bytes(image_size: int, numbers: int = 0) -> int:
    """Bytes of one stored agent step: a picture, and so many float32 of action and vector observation."""
    return 3 * image_size**2 + 4 * numbers + _BYTES_BESIDES


def filled(config: Config, step: int, demos: int) -> Footprint:
    """A rank's replay at its fullest, and so many demonstrations, at `step` bytes per agent step."""
    replay = replay_steps(config) * step if collects(config) else 0
    return Footprint(replay, demos * (config.env.episode_frames // config.env.action_repeat) * step)


def estimate(config: Config, info: EnvInfo) -> Footprint:
    """The data's share of a run's memory and disk, before anything is allocated; networks come on top.

    UserError if `demos.count` is null and there are no demonstrations to count.
    """
    count = len(available_demos(config.env.name, config.demos)) if config.demos.count is None else config.demos.count
    return filled(config, step_bytes(info.image_size, info.action_size + info.proprio_size), count)


def choose_scratch(footprint: Footprint, replay_dir: Path | None, sharers: int = 1) -> Path | None:
    """Where the replay lives if memory is short: beside the checkpoints; None: in memory. `sharers` share either.

    Raises UserError if it fits into neither.
    """
    needed, available = footprint.replay_bytes, available_memory() // sharers - footprint.demo_bytes
    if needed < MEMORY_SHARE * available:
        return None
    said = f"a replay of {needed / 2**30:.1f} GiB does not fit into {max(0, available) / 2**30:.1f} GiB of free memory"
    if replay_dir is None:
        raise UserError(f"{said}: lower training.replay_frames")
    replay_dir.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(replay_dir).free < sharers * needed:
        raise UserError(f"{said}, nor on the disk of {replay_dir}: lower training.replay_frames")
    log.warning("%s and is kept on disk, which is slower: training.replay_frames lowers it", said)
    return replay_dir / SCRATCH
