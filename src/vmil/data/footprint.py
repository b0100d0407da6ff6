"""What a run will take in memory and on disk, and what the machine has."""

from __future__ import annotations

import logging
import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from vmil.config.errors import UserError
from vmil.config.learners import collects
from vmil.config.schema import Config, EnvConfig
from vmil.data.demos import available_demos
from vmil.envs.factory import EnvInfo

log = logging.getLogger(__name__)

MEMORY_SHARE = 0.6  # of the free memory that the replay may fill; networks and their activations need the rest
_BYTES_BESIDES = 4 + 8 + 8 + 1 + 1  # float32 reward, int64 episode and t, bool is_first and terminated
SCRATCH = "scratch"  # in the checkpoints' replay directory: a replay that memory has no room for
CORES = "VMIL_CORES"  # the environment variable by which an experiment tells each of its runs its share of the cores
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Footprint:
    """Bytes, at the most, that the data of a run take: the filled replay, the demonstrations, the replay on disk."""

    replay_bytes: int
    demo_bytes: int
    checkpoint_bytes: int  # before compression, which saves most of it: pictures shrink to a sixth or so


def replay_steps(config: Config) -> int:
    """Capacity of a rank's replay in agent steps: whole episodes, and no more than the run's budget can collect."""
    training, episode = config.training, collected_env(config).episode_frames
    collected = math.ceil(training.frames / training.frames_per_epoch) * training.frames_per_epoch
    ranks = config.compute.devices * config.compute.nodes
    episodes = max(1, min(training.replay_frames, collected) // episode // ranks)
    return episodes * (episode // config.env.action_repeat)


def collected_env(config: Config) -> EnvConfig:
    """What the collector plays in: the task, with episodes as short as `training.episode_frames` asks.

    Who lies on the floor for a whole scored episode shows the same thing a thousand times; a new start shows another.
    """
    longest = config.env.episode_frames
    return replace(config.env, episode_frames=min(config.training.episode_frames or longest, longest))


def step_bytes(info: EnvInfo) -> int:
    """Bytes of one stored agent step."""
    return 3 * info.image_size**2 + 4 * (info.action_size + info.proprio_size) + _BYTES_BESIDES


def estimate(config: Config, info: EnvInfo) -> Footprint:
    """The data's share of a run's memory and disk, before anything is allocated; networks come on top.

    UserError if `demos.count` is null and there are no demonstrations to count.
    """
    replay = replay_steps(config) * step_bytes(info) if collects(config) else 0
    count = len(available_demos(config.env.name, config.demos)) if config.demos.count is None else config.demos.count
    demos = count * info.steps_per_episode * step_bytes(info)
    return Footprint(replay_bytes=replay, demo_bytes=demos, checkpoint_bytes=replay)


def choose_scratch(footprint: Footprint, replay_dir: Path | None, sharers: int = 1) -> Path | None:
    """Where the replay lives if memory is short: beside the checkpoints; None: in memory, which `sharers` share.

    Raises UserError if it fits into neither.
    """
    needed, available = footprint.replay_bytes, available_memory() // sharers - footprint.demo_bytes
    if needed < MEMORY_SHARE * available:
        return None
    said = f"a replay of {needed / 2**30:.1f} GiB does not fit into {max(0, available) / 2**30:.1f} GiB of free memory"
    if replay_dir is None:
        raise UserError(f"{said}: lower training.replay_frames")
    replay_dir.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(replay_dir).free < needed:
        raise UserError(f"{said}, nor on the disk of {replay_dir}: lower training.replay_frames")
    log.warning("%s and is kept on disk, which is slower: training.replay_frames lowers it", said)
    return replay_dir / SCRATCH


def allowed_cores() -> int:
    """Cores that this process may use: by its affinity (macOS does not say), its container's quota, its experiment."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = os.environ.get(CORES, "")
    limits = [cores, _container_cores(_CGROUP), int(share) if share.isdecimal() else None]
    return max(1, min(limit for limit in limits if limit is not None))


def _container_cores(group: Path) -> int | None:
    """The whole cores in a control group's quota of time; None if there is no group or no limit."""
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) // int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


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
