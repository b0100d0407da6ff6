"""Record demonstrations of any expert as physics states and actions; pixels are rendered on use."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from vmil.config.schema import EnvConfig
from vmil.data.recording import PHYSICS, read_recording, write_recording
from vmil.envs.factory import render_states
from vmil.envs.tasks import find_task
from vmil.errors import UserError
from vmil.experts.card import DemoLine, Recipe, write_card
from vmil.experts.expert import Expert
from vmil.experts.replay_check import Discrepancy, replay_demo
from vmil.experts.sheet import write_sheet
from vmil.system.arrays import Floats, Floats32
from vmil.system.provenance import versions

RETURN_TOLERANCE = 1e-2  # float32 rewards, summed
TRIES = 10  # episodes played for each demonstration wanted, at most


@dataclass(frozen=True)
class Episode:
    """One recorded episode."""

    physics: Floats
    """(T+1, S): the physics state at each agent step, the last state included."""
    action: Floats32
    """(T, A): action[t] was taken at physics[t]."""
    reward: Floats32
    """(T,): summed over the action repeat; for scores, never for a loss."""
    seed: int
    scores: dict[str, float]
    """What else it scores; "success" is 0 or 1."""

    @property
    def total(self) -> float:
        """The undiscounted return."""
        return float(self.reward.sum(dtype=np.float64))

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is recorded of it, by name."""
        return {"physics": self.physics, "action": self.action, "reward": self.reward}


def record_demos(expert: Expert, env: EnvConfig, out_dir: Path, recipe: Recipe) -> list[Path]:
    """Write demonstrations to `out_dir`/demos, a card and a contact sheet to `out_dir`; return the demonstrations.

    Actions are the expert's plus N(0, action_noise²), clipped; what was executed is what is stored. A little noise
    makes demonstrations show how to come back from small errors, as a perfect gait never does (Laskey et al. 2017).
    Attempt i starts from seed + i; those that do not succeed, where the task knows success, or that return less than
    `min_return` are left out, and counted in the card. A recording that was broken off goes on where it was.
    UserError when the directory holds other demonstrations or another expert's, the task's states cannot be drawn, or
    too few of 10 * count episodes are good enough; RuntimeError when a recording cannot be replayed.
    """
    expert.begin(recipe.seed)
    render_states(env, expert.state()[None])  # what cannot be drawn is refused before anything is recorded
    paths = _free_paths(out_dir / "demos", recipe.count)
    kept = {path: _recorded(path, env, expert, recipe) for path in paths if path.exists()}
    lines: list[DemoLine] = []
    attempt = recipe.seed
    with tqdm(total=recipe.count, unit="demo", disable=None) as bar:
        for path in paths:
            episode = kept.get(path)
            if episode is None:
                episode = _next_good(expert, recipe, attempt, len(lines))
                check = verify(expert, episode)
                write_recording(path, episode.arrays, _meta(episode, expert, env, recipe))
            else:
                check = verify(expert, episode)
            attempt = episode.seed + 1
            lines.append(DemoLine(path, episode.seed, episode.total, len(episode.action), episode.scores, check))
            bar.set_postfix(left_out=attempt - recipe.seed - len(lines))
            bar.update()
    write_sheet(out_dir / "contact_sheet.png", env, paths)
    write_card(out_dir, env.name, expert, lines, recipe, rejected=attempt - recipe.seed - len(lines))
    return paths


def _next_good(expert: Expert, recipe: Recipe, first: int, kept: int) -> Episode:
    """The first good episode from that seed on."""
    for attempt in range(first, recipe.seed + TRIES * recipe.count):
        episode = run_episode(expert, attempt, recipe.action_noise)
        if episode.scores.get("success", 1.0) and (recipe.min_return is None or episode.total >= recipe.min_return):
            return episode
    wanted = "succeed" if recipe.min_return is None else f"return at least {recipe.min_return:g}"
    raise UserError(f"only {kept} of {TRIES * recipe.count} episodes {wanted}")


def run_episode(expert: Expert, seed: int, action_noise: float = 0.0) -> Episode:
    """Play the episode of that seed and keep its physics; the noise is drawn by the same seed."""
    generator = np.random.default_rng(seed)
    expert.begin(seed)
    physics, actions, rewards = [expert.state()], [], []
    while not expert.over:
        action = noisy(expert.decide(), action_noise, generator)
        rewards.append(expert.execute(action))
        actions.append(action)
        physics.append(expert.state())
    return Episode(np.stack(physics), np.stack(actions), np.asarray(rewards, np.float32), seed, expert.scores())


def noisy(action: Floats32, std: float, generator: np.random.Generator) -> Floats32:
    """The action with Gaussian noise of that scale, clipped to [-1, 1]."""
    noise = std * generator.standard_normal(action.shape)
    disturbed: Floats32 = np.clip(action + noise, -1.0, 1.0).astype(np.float32)
    return disturbed


def verify(expert: Expert, episode: Episode) -> Discrepancy:
    """Play the episode again; RuntimeError if it does not come out the same."""
    check = replay_demo(expert, episode.seed, episode.physics, episode.action, episode.reward)
    if check.one_step_state > expert.one_step_tolerance or check.open_loop_return > RETURN_TOLERANCE:
        raise RuntimeError(f"the recording of seed {episode.seed} cannot be replayed: {check}")
    return check


def _free_paths(directory: Path, count: int) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"demo_{index:02d}.npz" for index in range(count)]
    strangers = sorted(set(directory.glob("demo_*.npz")) - set(paths))
    if strangers:  # a loader would mix them with ours
        raise _taken(strangers[0])
    return paths


def _taken(path: Path, other: str = "recording") -> UserError:
    return UserError(f"{path.parent} already holds {path.name} of another {other}: choose another directory")


def _recorded(path: Path, env: EnvConfig, expert: Expert, recipe: Recipe) -> Episode:
    """What an earlier, broken-off call of the same recording wrote; UserError if another recording or expert did."""
    recording = read_recording(path)
    if recording.physics is None or recording.reward is None:
        raise _taken(path)
    seed, scores = recording.meta.get("seed", 0), recording.meta.get("scores", {})
    episode = Episode(recording.physics, recording.action, recording.reward, seed, scores)
    ours = json.loads(json.dumps(_meta(episode, expert, env, recipe)))
    digest = ours.pop("expert_digest")
    if {key: value for key, value in recording.meta.items() if key != "expert_digest"} != ours:
        raise _taken(path)
    if recording.meta.get("expert_digest", digest) != digest:  # older recordings do not tell
        raise _taken(path, "expert")
    return episode


def _meta(episode: Episode, expert: Expert, env: EnvConfig, recipe: Recipe) -> dict[str, Any]:
    task = find_task(env.name)
    packages = task.family.packages
    installed = versions(*packages)
    return {
        "format": PHYSICS,
        "env": env.name,
        "domain": task.domain,
        "task": task.task,
        "action_repeat": expert.action_repeat,
        "return": episode.total,
        "scores": episode.scores,
        "seed": episode.seed,
        "expert": expert.kind,
        "expert_digest": expert.identity(),
        "action_noise": recipe.action_noise,
        "recipe": {key: value for key, value in asdict(recipe).items() if key not in ("count", "chosen")},
        "versions": {name: installed[name] for name in packages},
    }
