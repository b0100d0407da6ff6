"""What a run will take in memory and on disk, and what the machine has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import psutil

from vmil.config.schema import Config
from vmil.envs.factory import EnvInfo

# float32 reward, int64 episode and t, bool is_first
_BYTES_BESIDES = 4 + 8 + 8 + 1
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Footprint:
    """Bytes, at the most, that the data of a run take: the filled replay, the demonstrations, the replay on disk."""

    replay_bytes: int
    demo_bytes: int
    checkpoint_bytes: int  # before compression, which saves most of it: pictures shrink to a sixth or so


def replay_steps(config: Config) -> int:
    """Capacity of the replay in agent steps: whole episodes, and no more than the run's budget can collect."""
    training, env = config.training, config.env
    collected = math.ceil(training.frames / training.frames_per_epoch) * training.frames_per_epoch
    episodes = max(1, min(training.replay_frames, collected) // env.episode_frames)
    return episodes * (env.episode_frames // env.action_repeat)


def step_bytes(info: EnvInfo) -> int:
    """Bytes of one stored agent step."""
    return 3 * info.image_size**2 + 4 * (info.action_size + info.proprio_size) + _BYTES_BESIDES


def estimate(config: Config, info: EnvInfo) -> Footprint:
    """The data's share of a run's memory and disk, before anything is allocated; networks come on top."""
    replay = replay_steps(config) * step_bytes(info)
    demos = config.demos.count * info.steps_per_episode * step_bytes(info)
    return Footprint(replay_bytes=replay, demo_bytes=demos, checkpoint_bytes=replay)


def available_memory() -> int:
    """Bytes of memory that this process may still take: the machine's, or its container's if that is less."""
    free = int(psutil.virtual_memory().available)
    contained = _container_memory(_CGROUP)
    return free if contained is None else min(free, contained)


def _container_memory(group: Path) -> int | None:
    """What a control group of version 2 leaves; None if there is no group or no limit."""
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    cache = int(stat.get("inactive_file", 0))  # counts as used, but is given back when asked for
    return None if limit == "max" else max(0, int(limit) - used + cache)
