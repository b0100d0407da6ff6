"""Deterministic evaluation: the same episodes every time, played in lock-step, never used for learning."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDictBase
from torch import Tensor

from vmil.data.collect import Policy, one_thread
from vmil.envs.episodes import EpisodicEnv
from vmil.envs.tasks import is_single

# Evaluation draws its start states from seeds that no training run with a usual seed touches.
SEED_OFFSET = 10_000
SIDE_BY_SIDE = 5  # environments open at once: the textures of one scene can take 150 MB


def open_at_once(name: str) -> int:
    """How many environments of that name an evaluation may have open at once."""
    return 1 if is_single(name) else SIDE_BY_SIDE


@dataclass(frozen=True)
class Rollout:
    """Episodes of one policy.

    returns: sum of the environment's reward, per episode (score only). lengths: agent steps, per episode.
    rewards: (T_i,) float32 per episode. video: (T, H, W, 3) uint8 of the first episode, if asked for.
    scores: what else the task scores, by name, one number per episode; "success" is 0 or 1.
    """

    returns: list[float]
    lengths: list[int]
    rewards: list[NDArray[np.float32]]
    video: NDArray[np.uint8] | None
    seconds: float
    scores: dict[str, list[float]] = field(default_factory=dict)


@torch.no_grad()
def evaluate(
    policy: Policy,
    make_env: Callable[[int], EpisodicEnv],
    episodes: int,
    seed: int,
    video: bool = False,
    on_step: Callable[[int], None] | None = None,
    side_by_side: int = SIDE_BY_SIDE,
) -> Rollout:
    """Plays `episodes` episodes, up to five side by side, with one call of the policy per step of these.

    Args:
        policy: see `Policy`; gets images (N, H, W, 3) uint8 on the CPU. Episodes that are over keep their last image.
            N changes, if at all, where episodes begin.
        make_env: makes an environment from a seed; it is closed here.
        episodes: how many.
        seed: episode i starts from seed + 10 000 + i, whatever was played before.
        video: keep the images of the first episode.
        on_step: called with the number of steps that the running episodes have done; may raise to break off.
        side_by_side: environments open at once, at most; see `open_at_once`.
    """
    if episodes < 1:
        raise ValueError(f"an evaluation needs at least one episode, got {episodes}")
    started = time.perf_counter()
    envs: list[EpisodicEnv] = []
    rewards: list[NDArray[np.float32]] = []
    film: list[NDArray[np.uint8]] = []
    scores: list[dict[str, float]] = []
    seeds = [seed + SEED_OFFSET + index for index in range(episodes)]
    try:
        for first in range(0, episodes, side_by_side):
            _open(envs, make_env, seeds[first : first + side_by_side])
            with one_thread():
                played, filmed = _play(policy, envs, video and first == 0, on_step)
            rewards, film = rewards + played, film + filmed
            scores += [env.last_scores for env in envs]
    finally:
        for env in envs:
            env.close()
    return Rollout(
        returns=[float(np.sum(each, dtype=np.float64)) for each in rewards],
        lengths=[len(each) for each in rewards],
        rewards=rewards,
        video=np.stack(film) if video else None,
        seconds=time.perf_counter() - started,
        scores=_gathered(scores),
    )


def _gathered(episodes: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [scores[name] for scores in episodes] for name in episodes[0]}


def _open(envs: list[EpisodicEnv], make_env: Callable[[int], EpisodicEnv], seeds: list[int]) -> None:
    """Makes `envs` hold an environment for each seed, about to begin its first episode.

    Open ones are reused, which is faster than opening others: episodes depend on seed and index alone.
    """
    while len(envs) > len(seeds):
        envs.pop().close()
    for env, seed in zip(envs, seeds, strict=False):
        env.set_seed(seed)  # which makes its first episode the next
    for seed in seeds[len(envs) :]:
        envs.append(make_env(seed))


def _play(
    policy: Policy, envs: list[EpisodicEnv], video: bool, on_step: Callable[[int], None] | None
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.uint8]]]:
    """Rewards (T_i,) per episode, and the images of the first."""
    states: list[TensorDictBase] = [env.reset() for env in envs]
    live = list(range(len(envs)))
    rewards: list[list[float]] = [[] for _ in envs]
    film: list[NDArray[np.uint8]] = []
    is_first = torch.ones(len(envs), dtype=torch.bool)
    step = 0
    while live:
        image = torch.stack([state["image"] for state in states])  # (N, H, W, 3)
        if video and 0 in live:
            film.append(image[0].numpy())
        action = policy(image, _proprio(states), is_first).to("cpu", torch.float32)  # (N, A)
        for index in tuple(live):
            states[index].set("action", action[index])
            # TorchRL's step, not `rollout`: this loop needs neither a stacked trajectory nor automatic resets.
            states[index] = envs[index].step(states[index])["next"]
            rewards[index].append(float(states[index]["reward"]))
            if bool(states[index]["done"]):
                live.remove(index)
        is_first = torch.zeros_like(is_first)
        step += 1
        if on_step is not None:
            on_step(step)
    return [np.asarray(each, np.float32) for each in rewards], film


def _proprio(states: list[TensorDictBase]) -> Tensor | None:
    if "proprio" not in states[0]:
        return None
    return torch.stack([state["proprio"] for state in states])  # (N, P)
