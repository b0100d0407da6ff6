"""PDDM: plan through a learned ensemble, learn from the experience, and repeat (Nagabandi et al. 2019).

One *round* is what lies between two checkpoints: episodes are played with the ensemble as it is (the first ones at
random), then it is trained on all transitions so far. All randomness derives from the seed, the round and the episode.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from vmil.config.schema_planner import LearnedConfig
from vmil.envs.episodes import seed_from
from vmil.errors import UserError
from vmil.experts.ensemble import Ensemble
from vmil.experts.mppi import MPPI, MPPIConfig
from vmil.system.archives import read_archive, write_archive
from vmil.system.arrays import Floats


class Task(Protocol):
    """What PDDM has to know about a task: vectors in, vectors out, and what a future would cost."""

    observation_size: int
    action_size: int

    def begin(self, episode: int) -> Floats:
        """Open an episode; its first observation (S,)."""

    def step(self, action: Floats) -> tuple[Floats, bool]:
        """The next observation (S,) and whether the episode is over, after an action (A,) in [-1, 1]."""

    def cost(self, futures: Floats, first_step: int) -> Floats:
        """Cost (...) of observations (..., H, S) after control steps `first_step`, `first_step` + 1, ..."""

    def scores(self) -> dict[str, float]:
        """How the episode that is over went."""

    def close(self) -> None:
        """Free what it holds."""


class PDDM:
    """The ensemble, the planner and all their experience; `state` and `load` are the checkpoint."""

    def __init__(self, task: Task, config: LearnedConfig, planner: MPPIConfig, seed: int) -> None:
        self.task, self.config, self.planner, self.seed = task, config, planner, seed
        self.ensemble = Ensemble(task.observation_size, task.action_size, config, seed)
        self.observations: list[Floats] = []  # (T_i + 1, S) of each episode
        self.actions: list[Floats] = []  # (T_i, A)
        self.round = 0
        self.curve: list[dict[str, float]] = []  # a line per round

    def run_round(self, bar: tqdm[Any]) -> None:
        """Play, learn, and add a line to the curve."""
        started = time.monotonic()
        scores = []
        for index in range(self.config.rollouts):
            scores.append(self.play(self.round * self.config.rollouts + index))
            bar.update()
        loss = self.learn()
        means = {name: float(np.mean([each[name] for each in scores])) for name in scores[0]}
        line = {"round": float(self.round), "loss": loss, **means, "seconds": time.monotonic() - started}
        self.curve.append(line)
        self.round += 1
        bar.set_postfix({name: f"{value:.3g}" for name, value in line.items() if name not in ("round", "seconds")})

    def play(self, episode: int) -> dict[str, float]:
        """Play one episode, keep it, and return its scores."""
        observation = self.task.begin(episode)
        act = self.policy(seed_from(self.seed + 1, episode), random=self.round == 0)
        seen, done, over = [observation], list[Floats](), False
        while not over:
            action = act(observation, len(done) + 1)
            observation, over = self.task.step(action)
            seen.append(observation)
            done.append(action)
        self.observations.append(np.stack(seen))
        self.actions.append(np.stack(done))
        return self.task.scores()

    def policy(self, seed: int, random: bool = False) -> Callable[[Floats, int], Floats]:
        """A function (observation (S,), number of the step to be taken, from 1) -> action (A,) for one episode.

        At random: noise of the planner's own kind, which explores better than white noise.
        """
        if random:
            return self._random_policy(seed)
        mppi = MPPI(self.planner, self.task.action_size, seed)

        def act(observation: Floats, step: int) -> Floats:
            def evaluate(actions: Floats) -> Floats:
                futures = self.ensemble.foresee(observation, actions)  # (K, N, H, S)
                return self.task.cost(futures, step).mean(axis=0)

            return mppi.act(evaluate)

        return act

    def _random_policy(self, seed: int) -> Callable[[Floats, int], Floats]:
        noise = np.random.default_rng(seed)
        last = np.zeros(self.task.action_size)

        def act(observation: Floats, step: int) -> Floats:
            fresh = self.planner.sigma * noise.standard_normal(self.task.action_size)
            last[:] = self.planner.beta * fresh + (1 - self.planner.beta) * last
            return np.clip(last, -1.0, 1.0)

        return act

    def learn(self) -> float:
        """Train the ensemble on everything; its mean loss over the last tenth of the updates."""
        before = np.concatenate([episode[:-1] for episode in self.observations])
        after = np.concatenate([episode[1:] for episode in self.observations])
        columns = (before, np.concatenate(self.actions), after)
        observation, action, following = (torch.from_numpy(column).float() for column in columns)
        losses = self.ensemble.fit(observation, action, following)
        return float(np.mean(losses[-max(1, len(losses) // 10) :]))

    def state(self) -> dict[str, Any]:
        """All that the next round depends on."""
        return {
            "seed": self.seed,
            "round": self.round,
            "curve": self.curve,
            "ensemble": self.ensemble.state(),
            "observations": torch.from_numpy(np.concatenate(self.observations)),
            "actions": torch.from_numpy(np.concatenate(self.actions)),
            "lengths": [len(episode) for episode in self.actions],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned; UserError when it belongs to another seed or size."""
        sizes = (self.task.observation_size, self.task.action_size)
        if (state["seed"], *(state[name].shape[1] for name in ("observations", "actions"))) != (self.seed, *sizes):
            raise UserError(f"the checkpoint is not of seed {self.seed} and sizes {sizes}: choose another out=")
        try:
            self.ensemble.load(state["ensemble"])
        except RuntimeError as error:
            raise UserError("the checkpoint's ensemble has another size: choose another out=") from error
        self.round, self.curve = state["round"], state["curve"]
        lengths = np.asarray(state["lengths"])
        self.observations = np.split(state["observations"].numpy(), np.cumsum(lengths + 1)[:-1])
        self.actions = np.split(state["actions"].numpy(), np.cumsum(lengths)[:-1])


def train_pddm(pddm: PDDM, checkpoint: Path, train: bool = True) -> PDDM:
    """Take up the checkpoint, if there is one, and run the rounds that are missing, with a checkpoint after each.

    train: false takes the ensemble as it is. Returns the same PDDM, trained.
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        try:
            pddm.load(read_archive(checkpoint))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise UserError(f"'{checkpoint}' is damaged: remove it, and the ensemble is trained anew") from error
    if not train:
        return pddm
    rounds, rollouts = pddm.config.rounds, pddm.config.rollouts
    with tqdm(total=rounds * rollouts, initial=pddm.round * rollouts, unit="episode", disable=None) as bar:
        while pddm.round < rounds:
            pddm.run_round(bar)
            write_archive(checkpoint, pddm.state())
    return pddm
