"""Baoding as an expert's learner practises it: what a policy sees of the hand, a dense reward, many hands at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vmil.config.schema_ppo import HandPolicyConfig
from vmil.envs.baoding import ACTION_SIZE, SCATTER, Hand
from vmil.envs.baoding_scene import build_model
from vmil.envs.baoding_task import PERIOD, TOLERANCE, dropped, in_palm, targets, tracking_errors
from vmil.experts.actor import ActorSpec, Policy, deterministic_policy
from vmil.experts.practice import Flags, first_lengths
from vmil.system.arrays import Floats, Floats32

LIGHT_TIMESTEP = 0.005  # seconds
EPISODE_STEPS = 100
EVAL_SEED = 10_000  # episodes that choose the best actor
OBSERVATION_SIZE = 2 * 24 + 3 * 6 + 2 * 4 + 2
NEAR, FAR = 0.03, 0.09  # metres: how fast the reward of a ball falls off around its target


def hand_spec(hidden: int) -> ActorSpec:
    """The sizes of the hand's actor, which reads `observe`."""
    return ActorSpec(
        "adroit", "baoding", ("hand",), OBSERVATION_SIZE, ACTION_SIZE, hidden, action_repeat=1, normalised=True
    )


def observe(positions: Floats, velocities: Floats, step: NDArray[np.int64]) -> Floats:
    """What the policy sees (..., O) after `step` control steps (...), of qpos (..., 38) and qvel (..., 36).

    Joints and their velocities; of each ball its place in the palm, velocity and spin; of each target where the next
    control step is judged, and how far the ball is from it; the phase of half a revolution. The targets change places
    twice a revolution: in its second half the balls are named the other way round, so that one skill serves both.
    """
    joints = positions[..., :24]
    balls = np.stack([positions[..., 24:27], positions[..., 31:34]], axis=-2)
    speeds = np.stack([velocities[..., 24:30], velocities[..., 30:36]], axis=-2)  # linear, then angular
    placed, aims = in_palm(joints[..., :2], balls), targets(np.asarray(step + 1, np.float64))
    each = np.concatenate([placed, speeds[..., :3], speeds[..., 3:], aims, placed[..., [0, 2]] - aims], axis=-1)
    second = (step % PERIOD >= PERIOD // 2)[..., None, None]
    each = np.where(second, each[..., ::-1, :], each)
    phase = 2 * np.pi * (step % (PERIOD // 2)) / PERIOD
    clock = np.stack([np.sin(phase), np.cos(phase)], axis=-1)
    seen = [joints, velocities[..., :24], each.reshape(*each.shape[:-2], -1), clock]
    return np.concatenate(seen, axis=-1)


def tracking_reward(errors: Floats) -> Floats:
    """Reward (...) in [0, 1] of distances (..., 2) from the targets: near balls count most, both on target much."""
    near, far = (np.exp(-((errors / scale) ** 2)).mean(axis=-1) for scale in (NEAR, FAR))
    reward: Floats = 0.5 * near + 0.2 * far + 0.3 * (errors <= TOLERANCE).all(axis=-1)
    return reward


class HandPractice:
    """The task without pictures: in the light simulator at first, then in the real one."""

    def __init__(self, config: HandPolicyConfig, reference: Floats) -> None:
        """reference: physics states (R, 111) that episodes may start in."""
        self.spec, self._config, self._reference = hand_spec(config.ppo_hidden), config, reference

    def simulators(self, count: int, seed: int, frames: int) -> HandSimulators:
        """Start so many hands."""
        light = frames < self._config.ppo_light_frames
        return HandSimulators(count, seed, light, self._reference, self._config)

    def score(self, net: nn.Module, episodes: int) -> list[float]:
        """Control steps on target, of whole episodes in the real simulator."""
        policy = deterministic_policy(net, self.spec)
        hand = Hand()
        return [self._play(hand, policy, EVAL_SEED + episode) for episode in range(episodes)]

    def _play(self, hand: Hand, policy: Policy, seed: int) -> float:
        _scatter(hand, np.random.default_rng(seed))
        on_target = 0
        for _ in range(EPISODE_STEPS):
            sound = hand.control(policy({"hand": observe_hand(hand)}))
            if not sound or dropped(hand.balls):
                break
            on_target += int((tracking_errors(hand.joints[:2], hand.balls, hand.steps) <= TOLERANCE).all())
        return float(on_target)


def observe_hand(hand: Hand) -> Floats:
    """What the policy sees (O,) of one hand as it is."""
    return observe(hand.data.qpos, hand.data.qvel, np.asarray(hand.steps))


class HandSimulators:
    """N hands on one model; a ball lost or far from its target ends an episode, the time limit only breaks it off."""

    def __init__(self, count: int, seed: int, light: bool, reference: Floats, config: HandPolicyConfig) -> None:
        """light: as the planner's simulator, without dry friction and with steps twice as long."""
        model = build_model(LIGHT_TIMESTEP, light=True) if light else build_model()
        self._hands = [Hand(model) for _ in range(count)]
        self._reference, self._config = reference, config
        self._random = np.random.default_rng(seed)
        for hand in self._hands:
            self._begin(hand)
        self._left = first_lengths(count, EPISODE_STEPS)
        self.observation: Floats32 = self._observe()  # (N, O)

    def step(self, actions: Floats32) -> tuple[Floats32, Floats32, Flags, Flags]:
        """Act (N, 24) in [-1, 1]: the state it leads to (N, O), rewards (N,), done and terminated."""
        sound = np.array([hand.control(action) for hand, action in zip(self._hands, actions, strict=True)])
        following = self._observe()
        balls = np.stack([hand.balls for hand in self._hands])
        wrists = np.stack([hand.data.qpos[:2] for hand in self._hands])
        steps = np.array([hand.steps for hand in self._hands])
        errors = tracking_errors(wrists, balls, steps)
        astray = (errors > self._config.ppo_off_target).any(axis=-1)
        terminated = np.asarray(dropped(balls) | astray | ~sound, np.bool_)
        rewards = np.where(terminated, 0.0, tracking_reward(errors))
        self._left = [left - 1 for left in self._left]
        done = terminated | (np.asarray(self._left) == 0)
        for index in np.flatnonzero(done):
            self._begin(self._hands[index])
            self._left[index] = EPISODE_STEPS
        self.observation = self._observe() if done.any() else following
        return following, rewards.astype(np.float32), done, terminated

    def close(self) -> None:
        """Nothing to free: MuJoCo's memory goes with the hands."""

    def _begin(self, hand: Hand) -> None:
        _scatter(hand, self._random)
        if self._random.random() < self._config.ppo_reference_share:
            hand.restore(self._reference[self._random.integers(len(self._reference))])

    def _observe(self) -> Floats32:
        positions = np.stack([hand.data.qpos for hand in self._hands])
        velocities = np.stack([hand.data.qvel for hand in self._hands])
        return observe(positions, velocities, np.array([hand.steps for hand in self._hands])).astype(np.float32)


def _scatter(hand: Hand, random: np.random.Generator) -> None:
    hand.begin(random.uniform(-SCATTER, SCATTER, (2, 3)))
