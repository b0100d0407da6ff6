"""Record demonstrations of a state-based expert as physics states and actions; pixels are rendered on use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vmil.config.errors import UserError
from vmil.envs.factory import dmc_task
from vmil.experts.actor import Action, ActorSpec, Observation, Policy, deterministic_policy, load_actor
from vmil.experts.card import DemoLine, Recipe, write_card
from vmil.experts.provenance import versions
from vmil.experts.replay_check import replay_demo
from vmil.experts.state_task import load_task, repeat_action

FORMAT = 1
ONE_STEP_TOLERANCE = 1e-6  # in the state's units; 2e-13 is usual, as solver warm starts are not part of the state
RETURN_TOLERANCE = 1e-2  # float32 rewards, summed


@dataclass(frozen=True)
class Episode:
    """One recorded episode."""

    physics: npt.NDArray[np.float64]
    """(T+1, S): positions, velocities and activations at each agent step, the last state included."""
    action: Action
    """(T, A): action[t] was taken at physics[t]."""
    reward: npt.NDArray[np.float32]
    """(T,): summed over the action repeat; for scores, never for a loss."""
    seed: int

    @property
    def total(self) -> float:
        """The undiscounted return."""
        return float(self.reward.sum(dtype=np.float64))


def record_demos(
    env_name: str,
    actor_path: Path,
    out_dir: Path,
    count: int,
    seed: int,
    min_return: float = 0.0,
    action_noise: float = 0.0,
) -> list[Path]:
    """Write `count` demonstrations to `out_dir`/demos and a card to `out_dir`; return the paths of the demonstrations.

    Actions are the expert's mode plus N(0, action_noise²), clipped; what was executed is what is stored. A little noise
    makes demonstrations show how to come back from small errors, as a perfect gait never does (Laskey et al. 2017).
    Episode i starts from seed + i; those that return less than `min_return` are left out, and counted in the card.
    UserError when the actor is of another task, the directory holds other demonstrations, or too few of 10 * count
    episodes are good enough; RuntimeError when a recording cannot be replayed.
    """
    net, spec = load_actor(actor_path)
    if dmc_task(env_name) != (spec.domain, spec.task):
        raise UserError(f"{actor_path} is an actor for {spec.domain}-{spec.task}, not for {env_name}.")
    policy = deterministic_policy(net, spec)
    paths = _free_paths(out_dir / "demos", count)
    lines: list[DemoLine] = []
    rejected = 0
    while len(lines) < count:
        if len(lines) + rejected >= 10 * count:
            raise UserError(f"Only {len(lines)} of {len(lines) + rejected} episodes return at least {min_return:g}.")
        attempt = seed + len(lines) + rejected
        episode = run_episode(noisy_policy(policy, action_noise, attempt), spec, attempt)
        if episode.total < min_return:
            rejected += 1
            continue
        lines.append(_keep(paths[len(lines)], episode, spec, env_name, action_noise))
    recipe = Recipe(seed, min_return, action_noise, rejected)
    write_card(out_dir, actor_path, env_name, lines, recipe)
    return paths


def noisy_policy(policy: Policy, std: float, seed: int) -> Policy:
    """The policy with Gaussian noise of that scale on its actions, clipped to [-1, 1]."""
    generator = np.random.default_rng(seed)

    def act(observation: Observation) -> Action:
        action = policy(observation)
        noise = std * generator.standard_normal(action.shape)
        noisy: Action = np.clip(action + noise, -1.0, 1.0).astype(np.float32)
        return noisy

    return act


def run_episode(policy: Policy, spec: ActorSpec, seed: int) -> Episode:
    """Play one episode and keep its physics."""
    env = load_task(spec.domain, spec.task, seed)
    step = env.reset()
    physics, actions, rewards = [env.physics.get_state().copy()], [], []
    while not step.last():
        action = policy(step.observation)
        step, reward = repeat_action(env, action, spec.action_repeat)
        physics.append(env.physics.get_state().copy())
        actions.append(action)
        rewards.append(reward)
    env.close()
    return Episode(np.stack(physics), np.stack(actions), np.asarray(rewards, np.float32), seed)


def _free_paths(directory: Path, count: int) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"demo_{index:02d}.npz" for index in range(count)]
    strangers = sorted(set(directory.glob("demo_*.npz")) - set(paths))
    if strangers:  # a loader would mix them with ours
        raise UserError(
            f"{directory} already holds {strangers[0].name} of another recording: choose another directory."
        )
    return paths


def _keep(path: Path, episode: Episode, spec: ActorSpec, env_name: str, action_noise: float) -> DemoLine:
    check = replay_demo(spec.domain, spec.task, spec.action_repeat, episode.physics, episode.action, episode.reward)
    if check.one_step_state > ONE_STEP_TOLERANCE or check.open_loop_return > RETURN_TOLERANCE:
        raise RuntimeError(f"the recording of seed {episode.seed} cannot be replayed: {check}")
    _save(path, episode, {**_meta(episode, spec, env_name), "action_noise": action_noise})
    return DemoLine(path, episode.seed, episode.total, len(episode.action), check)


def _meta(episode: Episode, spec: ActorSpec, env_name: str) -> dict[str, Any]:
    installed = versions("dm_control", "mujoco")
    return {
        "format": FORMAT,
        "env": env_name,
        "domain": spec.domain,
        "task": spec.task,
        "action_repeat": spec.action_repeat,
        "return": episode.total,
        "seed": episode.seed,
        "expert": "sac",
        "versions": {name: installed[name] for name in ("dm_control", "mujoco")},
    }


def _save(path: Path, episode: Episode, meta: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file, physics=episode.physics, action=episode.action, reward=episode.reward, meta=np.array(json.dumps(meta))
        )
    part.replace(path)
