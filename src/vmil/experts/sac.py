"""Train a state-based expert: rounds of SAC and, where it is asked for, of PPO from the best actor on."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vmil.config.schema_expert import ExpertConfig
from vmil.config.schema_refine import RefineConfig
from vmil.envs.factory import dmc_task
from vmil.experts.actor import deterministic_policy, load_actor
from vmil.experts.ppo_agent import PPOAgent
from vmil.experts.provenance import machine, versions
from vmil.experts.rounds import Evaluation, best_return, take_up, train_round, write_checkpoint
from vmil.experts.sac_agent import SACAgent
from vmil.experts.state_task import score_episodes

FINAL_SEED = 12_000  # initial states that score the best actor; it was chosen on others


def train_expert(
    config: ExpertConfig, env_name: str, out_dir: Path, seed: int, resume: bool = True, progress: bool = True
) -> float:
    """Train an expert and return the mean return of its best actor over fresh deterministic episodes.

    Writes `actor.safetensors` (the best so far), `checkpoint.pt` and `refine.pt` after every round and, at the end,
    `expert.json` to `out_dir`. The best actor is chosen on one set of initial states and scored on another. Runs on one
    thread of the CPU: the networks are too small for more.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # Adam's moments decay into denormals, which are slow
    out_dir.mkdir(parents=True, exist_ok=True)
    actor_path, checkpoint = out_dir / "actor.safetensors", out_dir / "checkpoint.pt"
    agent = SACAgent(config, *dmc_task(env_name), seed)
    curve = take_up(agent, checkpoint) if resume else []
    with tqdm(total=config.frames, initial=agent.frames, unit="frame", disable=not progress) as bar:
        while agent.frames < config.frames and not 0 < config.target_return <= best_return(curve):
            train_round(agent, curve, -float("inf"), actor_path, config.eval_episodes, bar)
            write_checkpoint(checkpoint, agent, curve)
    refined = _refine(config, out_dir, seed, curve, resume, progress) if config.refine_frames else []
    returns = _score_file(actor_path, config.eval_episodes)
    _write_provenance(out_dir / "expert.json", agent, env_name, curve, refined, returns)
    return float(np.mean(returns))


def _refine(
    config: ExpertConfig, out_dir: Path, seed: int, before: list[Evaluation], resume: bool, progress: bool
) -> list[Evaluation]:
    """Run PPO from SAC's best actor on; its curve. Only what beats SAC's best becomes the actor."""
    actor_path, checkpoint = out_dir / "actor.safetensors", out_dir / "refine.pt"
    net, spec = load_actor(actor_path)
    agent = PPOAgent(config, spec, net.train(), seed)
    curve = take_up(agent, checkpoint) if resume else []
    with tqdm(total=config.refine_frames, initial=agent.frames, unit="frame", disable=not progress) as bar:
        while agent.frames < config.refine_frames:
            train_round(agent, curve, best_return(before), actor_path, config.eval_episodes, bar)
            write_checkpoint(checkpoint, agent, curve)
    return curve


def _score_file(actor_path: Path, episodes: int) -> list[float]:
    net, spec = load_actor(actor_path)
    return score_episodes(deterministic_policy(net, spec), spec, episodes, FINAL_SEED)


def _write_provenance(
    path: Path,
    agent: SACAgent,
    env_name: str,
    curve: list[Evaluation],
    refined: list[Evaluation],
    returns: list[float],
) -> None:
    settings = asdict(agent.config)
    record: dict[str, Any] = {
        "env": env_name,
        "seed": agent.seed,
        "config": {name: value for name, value in settings.items() if not name.startswith("refine_")},
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
    if refined:
        record["refined"] = {
            "config": {item.name: settings[item.name] for item in fields(RefineConfig)},
            "kept": best_return(refined) > best_return(curve),
            "curve": refined,
        }
    path.write_text(json.dumps(record, indent=1) + "\n")
