"""Whether a run's replay and demonstrations lie on the GPU that it learns on, or with the host."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from vmil.config.schema import Config, ReplayPlace
from vmil.data.footprint import SCRATCH, Footprint, choose_scratch, replay_steps
from vmil.data.ranks import local_index
from vmil.data.replay import Replay
from vmil.envs.factory import EnvInfo
from vmil.errors import UserError
from vmil.system.cuda import takes_gpu

GPU_SHARE = 1 / 3  # of the GPU's free memory that they may take unasked; networks and their activations need the rest


def computes_on_gpu(config: Config) -> bool:
    """Whether batches are learnt from on a GPU, and it is there."""
    return takes_gpu(config.compute.device, torch.cuda.is_available) and torch.cuda.is_available()


def replay_device(config: Config, footprint: Footprint) -> torch.device | None:
    """The GPU on which replay and demonstrations lie; None: they lie with the host. UserError as `fits`.

    It is the one that this rank learns on; no other is touched, and none at all if the configuration leaves no choice.
    """
    wish = config.compute.replay
    if wish == "host":
        return None
    device = torch.device("cuda", local_index(config)) if computes_on_gpu(config) else None
    free = None if device is None else torch.cuda.mem_get_info(device)[0]
    return device if fits(wish, footprint.replay_bytes + footprint.demo_bytes, free) else None


def fits(wish: ReplayPlace, needed: int, free: int | None) -> bool:
    """Whether `needed` bytes go to a GPU that has `free` ones; None: there is no GPU.

    UserError if they must and cannot.
    """
    if wish == "host":
        return False
    elif wish == "auto":
        return free is not None and needed < GPU_SHARE * free
    elif wish == "device":
        if free is None:
            raise UserError("compute.replay=device needs CUDA, and this run computes on no GPU: set it to auto")
        if needed > free:
            raise UserError(
                f"compute.replay=device: replay and demonstrations of {needed / 2**30:.1f} GiB do not fit into "
                f"{free / 2**30:.1f} GiB of free GPU memory: lower training.replay_frames or set it to auto"
            )
        return True
    raise ValueError(f"unknown place {wish!r}")


def make_replay(
    config: Config,
    info: EnvInfo,
    seed: int,
    replay_dir: Path | None,
    place: torch.device | None,
    footprint: Footprint,
) -> Replay:
    """The agent's replay, empty: on the GPU that `place` names, else in memory or, where that is short, on disk.

    UserError as `choose_scratch`.
    """
    scratch = choose_scratch(footprint, replay_dir, config.compute.devices) if place is None else None
    if scratch is None and replay_dir is not None:
        shutil.rmtree(replay_dir / SCRATCH, ignore_errors=True)  # left by a killed process that had less room
    return Replay(replay_steps(config), info.frames_per_step, seed, scratch, place)
