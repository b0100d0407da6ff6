"""What it takes to draw a batch from a replay as large as a long run's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tensordict import TensorDict

from vmil.bench.clock import Times, repeat
from vmil.bench.report import GB, Row, Table, times_row
from vmil.config.schema import Config
from vmil.data.footprint import Footprint, choose_scratch, step_bytes
from vmil.data.place import replay_device
from vmil.data.replay import Replay
from vmil.envs.factory import EnvInfo, env_info
from vmil.errors import UserError
from vmil.learner.device import choose_device

PART = "sampling"
DRAWS = 10  # in each repeat: one takes a few milliseconds
SHARES = (0.04, 0.2, 1.0)  # of the replay, after each of which it is sampled from
KEYS = ("image", "action", "is_first", "terminated")  # what a learner asks for


def noise_episode(info: EnvInfo, index: int) -> TensorDict:
    """One whole episode (time,) as the collector gives it, of random pixels."""
    steps, generator = info.steps_per_episode, torch.Generator().manual_seed(index)
    t = torch.arange(steps)
    size = info.image_size
    content = {
        "image": torch.randint(0, 256, (steps, size, size, 3), dtype=torch.uint8, generator=generator),
        "action": 2 * torch.rand(steps, info.action_size, generator=generator) - 1,
        "reward": torch.zeros(steps),
        "episode": torch.full((steps,), index),
        "t": t,
        "is_first": t == 0,
        "terminated": torch.zeros(steps, dtype=torch.bool),
    }
    return TensorDict(content, [steps])


@contextmanager
def empty_replay(config: Config, info: EnvInfo, episodes: int) -> Iterator[Replay]:
    """An empty replay for that many, where a run would keep it; UserError if it fits nowhere."""
    steps = episodes * info.steps_per_episode
    size = steps * step_bytes(info.image_size, info.action_size + info.proprio_size)
    taken = Footprint(size, 0)
    with tempfile.TemporaryDirectory(prefix="vmil-bench-") as directory:
        try:
            device = replay_device(config, taken)
            scratch = choose_scratch(taken, Path(directory)) if device is None else None
        except UserError as error:
            raise UserError(f"{error}, here buffer_frames") from error
        yield Replay(steps, info.frames_per_step, 0, scratch, device)


def where(replay: Replay) -> str:
    """Where it lies, in words."""
    if replay.device is not None:
        return f"on {replay.device}"
    return "in memory" if replay.scratch is None else "on disk"


def draw(replay: Replay, sequences: int, length: int, pinned: bool) -> dict[str, torch.Tensor]:
    """One batch (T, B, …), as the data module draws it."""
    return replay.stack(replay.windows(sequences, length), length, KEYS, pinned)


def draws(replay: Replay, config: Config, warmup: int, repeats: int, to_device: bool = False) -> Times:
    """Seconds of one draw of the configured batch where the replay lies; with `to_device`, until it lies there."""
    training, device = config.training, choose_device(config)
    pinned = device.type == "cuda" and replay.device is None

    def work() -> None:
        for _ in range(DRAWS):
            batch = draw(replay, training.batch_size, training.batch_length, pinned)
            if to_device:
                [tensor.to(device, non_blocking=True) for tensor in batch.values()]

    times = repeat(work, device if to_device else replay.device or torch.device("cpu"), warmup, repeats)
    return Times(tuple(seconds / DRAWS for seconds in times.seconds))


def measure_sampling(table: Table, config: Config, frames: int, warmup: int, repeats: int) -> list[tuple[int, float]]:
    """Rows for a growing replay; (frames, seconds) of each size."""
    info = env_info(config.env)
    shape = f"{config.training.batch_size}x{config.training.batch_length}"
    episodes = max(1, frames // config.env.episode_frames)
    found: list[tuple[int, float]] = []
    with empty_replay(config, info, episodes) as replay:
        template = noise_episode(info, 0)
        for count in sorted({max(1, round(share * episodes)) for share in SHARES}):
            while replay.episodes < count:
                template["episode"].fill_(replay.episodes)
                replay.extend(template)
            times = draws(replay, config, warmup, repeats)
            table.add(times_row(PART, f"{shape} of {replay.frames:,} frames", times, where(replay)))
            found.append((replay.frames, times.median))
        if choose_device(config).type == "cuda" and replay.device is None:
            times = draws(replay, config, warmup, repeats, to_device=True)
            table.add(times_row(PART, f"{shape} of {replay.frames:,} frames, to the GPU", times))
        bytes_of = replay.memory_bytes() / GB
        note = f"{where(replay)}, pixels as bytes"
        table.add(Row(PART, f"replay of {replay.frames:,} frames", bytes_of, "GB", note=note))
    return found
