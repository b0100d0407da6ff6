"""The expert of baoding that does not plan: a policy that PPO trained in the simulator, and its training.

MPPI's actions are largely noise: a network that sees the true state explains a quarter of their variance, and a clone
of them loses the balls within two seconds. This expert acts alike in similar states, which can be imitated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from vmil.config.ranges import Range, require
from vmil.config.runs import assets_dir
from vmil.config.schema import EnvConfig
from vmil.config.schema_ppo import HandPolicyConfig
from vmil.data.recording import read_recording
from vmil.envs.baoding import STATE_SIZE, BaodingEnv
from vmil.errors import UserError
from vmil.experts.actor import deterministic_policy, load_actor, make_actor_net
from vmil.experts.expert import Kind
from vmil.experts.hand_expert import HandExpert
from vmil.experts.hand_measurement import Measurement, Settings
from vmil.experts.hand_practice import HandPractice, hand_spec, observe_hand
from vmil.experts.ppo_agent import PPOAgent
from vmil.experts.rounds import Evaluation, train_rounds
from vmil.system.arrays import Floats
from vmil.system.paths import given_path
from vmil.system.provenance import digest, sha256

CHECKPOINT = "ppo.pt"
LAST_STEPS = 6  # of a recording: an episode that starts there has hardly begun when it ends


class PolicyPlanner:
    """The mode of a trained actor, in a planner's place."""

    def __init__(
        self, actor: Path, curve: Sequence[Evaluation] = (), trained_with: HandPolicyConfig | None = None
    ) -> None:
        """curve, trained_with: of its training, where that is known. UserError if it is not an actor of the hand."""
        net, spec = load_actor(actor)
        if spec != hand_spec(spec.hidden):
            raise UserError(f"{actor} is an actor for {spec.domain}-{spec.task}, or of another version of the hand's")
        self._policy = deterministic_policy(net, spec)
        self.weights, self.curve, self.trained_with = actor, curve, trained_with

    @property
    def settings(self) -> Settings:
        """What it was trained with, where that is known; its actions depend on the weights alone."""
        return {"method": "ppo", **({} if self.trained_with is None else asdict(self.trained_with))}

    def begin(self, seed: int) -> None:
        """Nothing is carried from one episode to the next, and nothing is drawn."""

    def act(self, env: BaodingEnv) -> Floats:
        """The action (24,) for the hand as it is."""
        return self._policy({"hand": observe_hand(env.hand)}).astype(np.float64)

    def close(self) -> None:
        """Nothing to free."""


class PolicyExpert(HandExpert):
    """The mode of a trained actor."""

    kind: ClassVar[Kind] = "ppo"
    retrainable = True

    def __init__(self, config: EnvConfig, policy: PolicyPlanner, provenance: Path, give_up: bool) -> None:
        """As `HandExpert`; the measurement tells how a policy was trained that does not know."""
        super().__init__(config, policy, provenance, give_up)
        if policy.trained_with is None and (made := self.measured()):
            self.settings = made["planner"]

    def identity(self) -> str:
        """Of the actor's weights: what it was trained with changes nothing any more."""
        return digest("ppo", *map(sha256, self.weights))

    def what(self) -> str:
        """As `HandExpert`."""
        return "The mode of a policy that PPO taught in the simulator (`vmil.experts.hand_policy`)"

    def _about_training(self, made: Measurement) -> list[str]:
        curve = made["curve"]
        best = max(curve, key=lambda point: point["mean"])
        return [
            f"- The policy is the best of {len(curve)} evaluations, after {best['frames']:,} of "
            f"{curve[-1]['frames']:,} control steps: {best['mean']:.1f} of 100 on target; "
            f"{curve[-1]['seconds'] / 60:.0f} minutes of one thread."
        ]


def train_hand_policy(config: HandPolicyConfig, out_dir: Path, seed: int, episodes: int) -> list[Evaluation]:
    """Run the rounds of PPO that are missing; `out_dir` holds `ppo.pt` and the best actor, `actor.safetensors`.

    Returns the curve: control steps on target of whole episodes. Runs on one thread.
    """
    require("ppo_frames", config.ppo_frames, Range(1))  # 0 leaves an actor as it is: here is none
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    out_dir.mkdir(parents=True, exist_ok=True)
    practice = HandPractice(config, reference_states(config.ppo_reference))
    torch.manual_seed(seed)
    agent = PPOAgent(config, practice, still_net(practice), seed)
    return train_rounds(agent, config.ppo_frames, out_dir, CHECKPOINT, episodes)


def still_net(practice: HandPractice) -> nn.Sequential:
    """An actor that holds still at first: one that flails loses the balls, and learns nothing else."""
    net = make_actor_net(practice.spec)
    last = net[-1]
    assert isinstance(last, nn.Linear)
    nn.init.normal_(last.weight, std=0.003)
    nn.init.zeros_(last.bias)
    return net


def reference_states(directory: str | None) -> Floats:
    """The physics states (R, 111) of recordings; UserError where there are none."""
    shipped = assets_dir("baoding") / "planned" / "demos"
    where = shipped if directory is None else given_path("ppo_reference", directory)
    states = [read_recording(path).physics for path in sorted(where.glob("demo_*.npz"))]
    found = [each[:-LAST_STEPS] for each in states if each is not None and each.shape[1] == STATE_SIZE]
    if not found:
        raise UserError(f"there is no recording of baoding's states in '{where}'")
    return np.concatenate(found)
