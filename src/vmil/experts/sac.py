"""Train a state-based expert: rounds of SAC and, where it is asked for, of PPO from the best actor on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vmil.config.schema_expert import ExpertConfig
from vmil.config.schema_ppo import PPO_NAMES
from vmil.envs.suite import dmc_task
from vmil.experts.actor import deterministic_policy, load_actor
from vmil.experts.expert import ACTOR, FINAL_SEED, PROVENANCE
from vmil.experts.ppo_agent import PPOAgent
from vmil.experts.rounds import Evaluation, best_return, saved_curve, train_rounds
from vmil.experts.sac_agent import SACAgent
from vmil.experts.state_task import score_episodes
from vmil.experts.suite_practice import SuitePractice
from vmil.system import machine
from vmil.system.provenance import versions

REFINE = "refine.pt"  # PPO's checkpoint


def train_expert(config: ExpertConfig, env_name: str, out_dir: Path, seed: int, resume: bool = True) -> float:
    """Train an expert and return the mean return of its best actor over fresh deterministic episodes.

    Writes `actor.safetensors` (the best so far), `checkpoint.pt` and `refine.pt` after every round and, at the end,
    `expert.json` to `out_dir`. The best actor is chosen on one set of initial states and scored on another. Runs on one
    thread of the CPU: the networks are too small for more.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # Adam's moments decay into denormals, which are slow
    out_dir.mkdir(parents=True, exist_ok=True)
    agent = SACAgent(config, *dmc_task(env_name), seed)
    target, episodes, refine = config.target_return, config.eval_episodes, out_dir / REFINE
    if not resume:
        refine.unlink(missing_ok=True)  # it went on from an actor that is about to be replaced
    refined = saved_curve(refine)  # an actor that PPO made better before stays until it is beaten
    before = best_return(refined)
    curve = train_rounds(
        agent, config.frames, out_dir, "checkpoint.pt", episodes, to_beat=before, target=target, resume=resume
    )
    if config.ppo_frames:
        net, spec = load_actor(out_dir / ACTOR)
        ppo, to_beat = PPOAgent(config, SuitePractice(spec), net.train(), seed), best_return(curve)
        refined = train_rounds(ppo, config.ppo_frames, out_dir, REFINE, episodes, to_beat=to_beat, resume=resume)
    returns = _score_file(out_dir / ACTOR, episodes)
    _write_provenance(out_dir / PROVENANCE, agent, env_name, curve, refined, returns)
    return float(np.mean(returns))


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
        "config": {name: value for name, value in settings.items() if name not in PPO_NAMES},
        "stages": agent.stages,
        "frames": agent.frames,
        "actor_frames": max(curve, key=lambda point: point["mean"])["frames"],
        "seconds": curve[-1]["seconds"],
        "returns": returns,
        "returns_seed": FINAL_SEED,
        "curve": curve,
        "machine": machine.in_words(),
        "versions": versions("torch", "torchrl", "dm_control", "mujoco"),
    }
    if refined:
        record["refined"] = {
            "config": {name: settings[name] for name in PPO_NAMES}
            | {"ppo_frames": settings["ppo_frames"] or refined[-1]["frames"]},  # 0: trained by an earlier call
            "kept": best_return(refined) > best_return(curve),
            "curve": refined,
        }
    path.write_text(json.dumps(record, indent=1) + "\n")
