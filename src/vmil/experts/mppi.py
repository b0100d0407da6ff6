"""Model-predictive path integral control with filtered noise, for any model and any cost.

The planner of PDDM (Nagabandi et al. 2019, section 4.2): sequences around the last plan, noise that is smooth in time,
and a mean weighted by exp(-κ · cost). It knows neither simulator nor task: the caller evaluates the sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vmil.system.arrays import Floats

Evaluate = Callable[[Floats], Floats]
"""Action sequences (N, H, A) in [-1, 1] to their costs (N,); a non-finite (NaN or inf) cost is the worst."""


@dataclass(frozen=True)
class MPPIConfig:
    """Settings of the planner; an action lies in [-1, 1]."""

    horizon: int  # control steps
    samples: int  # sequences per iteration
    iterations: int  # rounds of sampling around the improved plan, per control step
    kappa: float  # inverse temperature, per unit of cost
    beta: float  # n_t = β u_t + (1 - β) n_{t-1}; 1 is white noise
    sigma: float  # standard deviation of u
    fine_share: float  # of the samples, with the smaller noise
    fine_sigma: float


class MPPI:
    """A plan (H, A) that is improved at every control step and carried over to the next."""

    def __init__(self, config: MPPIConfig, action_size: int, seed: int) -> None:
        self.config = config
        self.plan = np.zeros((config.horizon, action_size))
        self._random = np.random.default_rng(seed)

    def act(self, evaluate: Evaluate) -> Floats:
        """Improve the plan, return its first action (A,), and shift the rest forward in time; the last one stays."""
        for _ in range(self.config.iterations):
            sequences = self.propose()
            costs = evaluate(sequences)
            self.plan = weigh(sequences, costs, self.config.kappa)
        action: Floats = self.plan[0].copy()
        self.plan = np.concatenate([self.plan[1:], self.plan[-1:]])
        return action

    def propose(self) -> Floats:
        """Sequences (N, H, A) around the plan, the plan itself first, clipped to [-1, 1]."""
        config = self.config
        noise = self._random.standard_normal((config.samples, *self.plan.shape))
        fine = round(config.fine_share * config.samples)
        noise *= np.where(np.arange(config.samples) < fine, config.fine_sigma, config.sigma)[:, None, None]
        noise[0] = 0.0
        return np.clip(self.plan + smooth(noise, config.beta), -1.0, 1.0)


def smooth(noise: Floats, beta: float) -> Floats:
    """First-order low pass along time: n_t = β u_t + (1 - β) n_{t-1}, n_{-1} = 0; noise (N, H, A)."""
    from scipy.signal import lfilter

    smoothed: Floats = lfilter([beta], [1.0, beta - 1.0], noise, axis=1)
    return smoothed


def weigh(sequences: Floats, costs: Floats, kappa: float) -> Floats:
    """Mean (H, A) of sequences (N, H, A), weighted by exp(-κ (cost - lowest cost)); costs (N,).

    A sequence whose cost is not finite gets no weight. ValueError when none is finite.
    """
    finite = np.isfinite(costs)
    if not finite.any():
        raise ValueError("no sequence has a finite cost")
    weights = np.exp(-kappa * (costs[finite] - costs[finite].min()))
    mean: Floats = np.einsum("n,nha->ha", weights / weights.sum(), sequences[finite])
    return mean
