"""Train a state-based expert: rounds of SAC, an evaluation and a checkpoint after each, the best actor kept."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from tqdm import tqdm

from vmil.config.errors import UserError
from vmil.config.schema_expert import ExpertConfig
from vmil.data.archives import read_archive
from vmil.envs.factory import dmc_task
from vmil.experts.actor import deterministic_policy, load_actor, save_actor
from vmil.experts.provenance import machine, versions
from vmil.experts.sac_agent import SACAgent
from vmil.experts.state_task import score_episodes

EVAL_SEED, FINAL_SEED = 10_000, 12_000  # initial states for choosing the best actor, and others for scoring it


class Evaluation(TypedDict):
    """One point of the learning curve; returns are of deterministic episodes, seconds are spent so far."""

    frames: int
    mean: float
    min: float
    seconds: float


def train_expert(
    config: ExpertConfig, env_name: str, out_dir: Path, seed: int, resume: bool = True, progress: bool = True
) -> float:
    """Train an expert and return the mean return of its best actor over fresh deterministic episodes.

    Writes `actor.safetensors` (the best so far), `checkpoint.pt` after every round and, at the end, `expert.json` to
    `out_dir`. The best actor is chosen on one set of initial states and scored on another. Runs on one thread of the
    CPU: the networks are too small for more.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # Adam's moments decay into denormals, which are slow
    out_dir.mkdir(parents=True, exist_ok=True)
    actor_path, checkpoint = out_dir / "actor.safetensors", out_dir / "checkpoint.pt"
    agent = SACAgent(config, *dmc_task(env_name), seed)
    curve: list[Evaluation] = []
    if resume and checkpoint.exists():
        try:
            saved = read_archive(checkpoint)
            agent.load(saved)
            curve = saved["curve"]
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"'{checkpoint}' is damaged: remove it, and the expert is trained anew") from error
    with tqdm(total=config.frames, initial=agent.frames, unit="frame", disable=not progress) as bar:
        while agent.frames < config.frames and not 0 < config.target_return <= _best(curve):
            _train_and_evaluate(agent, curve, actor_path, bar)
            _write_checkpoint(checkpoint, {**agent.state(), "curve": curve})
    returns = _score_file(actor_path, config.eval_episodes)
    _write_provenance(out_dir / "expert.json", agent, env_name, curve, returns)
    return float(np.mean(returns))


def _train_and_evaluate(agent: SACAgent, curve: list[Evaluation], actor_path: Path, bar: tqdm[Any]) -> None:
    started, spent, best = time.monotonic(), curve[-1]["seconds"] if curve else 0.0, _best(curve)
    agent.run_round(bar)
    policy = deterministic_policy(agent.actor_net, agent.spec)
    returns = score_episodes(policy, agent.spec, agent.config.eval_episodes, EVAL_SEED)
    mean, low = float(np.mean(returns)), float(np.min(returns))
    if mean > best:
        save_actor(actor_path, agent.actor_net, agent.spec)
    bar.set_postfix(last=f"{mean:.0f}", best=f"{max(mean, best):.0f}")
    curve.append({"frames": agent.frames, "mean": mean, "min": low, "seconds": spent + time.monotonic() - started})


def _best(curve: list[Evaluation]) -> float:
    return max((point["mean"] for point in curve), default=-float("inf"))


def _score_file(actor_path: Path, episodes: int) -> list[float]:
    net, spec = load_actor(actor_path)
    return score_episodes(deterministic_policy(net, spec), spec, episodes, FINAL_SEED)


def _write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)  # a kill while writing leaves the previous checkpoint whole


def _write_provenance(
    path: Path, agent: SACAgent, env_name: str, curve: list[Evaluation], returns: list[float]
) -> None:
    record = {
        "env": env_name,
        "seed": agent.seed,
        "config": asdict(agent.config),
        "stages": agent.stages,
        "frames": agent.frames,
        "actor_frames": max(curve, key=lambda point: point["mean"])["frames"],
        "seconds": curve[-1]["seconds"],
        "returns": returns,
        "returns_seed": FINAL_SEED,
        "curve": curve,
        "machine": machine(),
        "versions": versions("torch", "torchrl", "dm_control", "mujoco"),
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
