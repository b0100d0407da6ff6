"""How a trained model and its discriminator see expert and agent: states in two dimensions, and D's logits."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray

from vmil.config.load import load_saved_config
from vmil.config.runs import CONFIG_FILE, replay_dir
from vmil.errors import UserError

if TYPE_CHECKING:
    from tensordict import TensorDict

    from vmil.config.schema import Config
    from vmil.training.vmil import VMIL

Source = Literal["expert", "agent"]
SOURCES: tuple[Source, ...] = ("expert", "agent")
EPISODES = 8  # the agent's last ones
SLICES = 24  # sequences that are filtered, of each source
SETTLING = 5  # first steps of a sequence, left out: the filter has not seen enough yet
POINTS = 300  # kept of each source


@dataclass(frozen=True)
class LatentPoint:
    """One filtered state: where it lies in the plane of the pooled states' two largest principal components."""

    source: str
    x: float
    y: float
    logit: float  # D's, of the transition that leaves it; above 0: taken for the expert's


def latent_points(run_dir: Path) -> list[LatentPoint]:
    """Filters sequences of the demonstrations and of the agent's last episodes with the run's last checkpoint.

    Raises:
        UserError: the run has no checkpoint or no stored episode.
    """
    config = load_saved_config(run_dir / CONFIG_FILE, ["compute.device=cpu"])
    from vmil.training.assembly import prepare_torch
    from vmil.training.trained import trained_learner
    from vmil.training.vmil import VMIL

    prepare_torch(config)
    learner = cast(VMIL, trained_learner(run_dir, config, VMIL)[0])
    expert, agent = _sequences(config, run_dir)
    states, logits = zip(_filtered(learner, expert), _filtered(learner, agent), strict=True)
    plane = project(np.concatenate(states))
    generator = np.random.default_rng(0)
    found, begin = [], 0
    for source, opinion in zip(SOURCES, logits, strict=True):
        kept = generator.permutation(len(opinion))[:POINTS]
        for index in np.sort(kept):
            x, y = plane[begin + index]
            found.append(LatentPoint(source, float(x), float(y), float(opinion[index])))
        begin += len(opinion)
    return found


def project(states: NDArray[np.floating]) -> NDArray[np.float64]:
    """States (N, F) on their two largest principal components (N, 2); the larger tail of each points up."""
    centred = np.asarray(states, np.float64) - np.mean(states, 0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    plane = centred @ directions[:2].T
    signs = np.sign((plane**3).sum(0))  # else the picture could be mirrored from one machine to the next
    return np.asarray(plane * np.where(signs == 0, 1, signs), np.float64)


def across_sources(points: Sequence[LatentPoint]) -> float:
    """The share of states whose nearest neighbour in the plane is of the other source: 0 apart, about ½ if alike."""
    places = np.array([[point.x, point.y] for point in points])
    sources = np.array([point.source for point in points])
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float(np.mean(sources != sources[distances.argmin(1)]))


def write_latents(points: Sequence[LatentPoint], path: Path) -> None:
    """Writes points as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([item.name for item in fields(LatentPoint)])
        writer.writerows([point.source, *(f"{value:.4g}" for value in astuple(point)[1:])] for point in points)


def read_latents(path: Path) -> list[LatentPoint]:
    """Reads what `write_latents` wrote; UserError if it is something else."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
            return [LatentPoint(r["source"], float(r["x"]), float(r["y"]), float(r["logit"])) for r in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold latent states") from error


def _sequences(config: Config, run_dir: Path) -> tuple[TensorDict, TensorDict]:
    """Slices (B, T, …) of demonstrations and of the agent's last episodes."""
    from tensordict import TensorDict

    from vmil.data.demos import load_demonstrations
    from vmil.data.episode_files import stored_episodes
    from vmil.data.replay import Replay
    from vmil.data.tensor_files import read_tensors

    paths = stored_episodes(replay_dir(run_dir))[-EPISODES:]
    if not paths:
        raise UserError(f"'{run_dir}' holds no episode of its agent")
    demos = load_demonstrations(config.env, config.demos, config.seed, sampling_seed=0)
    episodes = [read_tensors(path) for path in paths]
    agent = Replay(sum(len(each["action"]) for each in episodes), config.env.action_repeat, seed=0)
    for each in episodes:
        agent.extend(TensorDict(each, [len(each["action"])]))
    lengths = [span.length for replay in (demos.replay, agent) for span in replay.spans]
    length = min(config.training.batch_length, *lengths)
    return demos.replay.sample(SLICES, length), agent.sample(SLICES, length)


def _filtered(learner: VMIL, sequences: TensorDict) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Posterior states (N, F) of slices (B, T, …), and D's logits (N,) of the transitions that leave them."""
    import torch

    from vmil.data.transition import previous_actions
    from vmil.discriminator.network import Triples
    from vmil.world_model.model import preprocess

    torch.manual_seed(0)
    steps = sequences.transpose(0, 1)
    action, is_first = steps["action"], steps["is_first"]
    proprio = steps["proprio"] if learner.world_model.proprio_size else None
    with torch.no_grad():
        before = previous_actions(action, is_first)
        posterior, _ = learner.world_model.observe(preprocess(steps["image"]), proprio, before, is_first)
        feat = posterior.feat[min(SETTLING, len(action) - 2) :]  # (T', B, F)
        triples = Triples(feat[:-1], action[-len(feat) : -1], feat[1:])
        logit = learner.discriminator(learner.discriminator.inputs(triples))
    return feat[:-1].flatten(0, 1).numpy(), logit.flatten().numpy()
