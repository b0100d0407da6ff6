"""Settings of the expert that plans: MPPI through the simulator, or through an ensemble that learns it (PDDM).

`method` may name a policy in the planner's place; its settings are `schema_ppo.HandPolicyConfig`.

Source, where no other is named: Nagabandi et al. 2019, "Deep dynamics models for learning dexterous manipulation", its
baoding settings. A control step is 0.1 s; actions lie in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from vmil.config.ranges import Count, NotNegative, Positive, Range, Share

Method = Literal["mppi", "ppo"]
Dynamics = Literal["simulator", "learned"]


@dataclass(frozen=True)
class PlannerConfig:
    """How each control step is planned."""

    method: Method = "mppi"
    """What chooses the actions: a plan, remade at every control step, or a policy that PPO trained in the simulator."""
    dynamics: Dynamics = "simulator"
    """What predicts the effect of actions: MuJoCo itself, or networks trained on the planner's own experience."""
    horizon: Count = 5
    """Control steps planned ahead. Source: ours; the paper's 7 tracks worse at the same cost."""
    samples: Count = 256
    """Action sequences per iteration; the paper takes 700. Source: ours; 128 missed success by one step when tried."""
    iterations: Count = 1
    """Rounds of sampling around the improved plan, per control step."""
    kappa: NotNegative | None = None
    """Inverse temperature of the weights, per unit of cost; null: 60 through the simulator, where 20 tracks worse with
    so few samples, and 20 through an ensemble, whose errors 60 exploits. Source: ours."""
    beta: Share = 0.6
    """Share of new noise: n_t = β u_t + (1 - β) n_{t-1}; 1 is white noise."""
    sigma: NotNegative | None = None
    """Standard deviation of the noise u; null: 0.6 through the simulator, where the paper's 0.9 tracks worse with so
    few samples, and 0.3 through an ensemble, whose first rollouts end within a second at 0.6. Source: ours."""
    fine_share: Share = 0.1
    """Share of the samples that are drawn with the finer noise. Source: ours."""
    fine_sigma: NotNegative | None = None
    """Standard deviation of the finer noise; null: 0.27 through the simulator, 0.15 through an ensemble."""
    timestep: Annotated[float, Range(0.0001)] = 0.005
    """Seconds per physics step of the simulator that plans, half of what the real one takes; must divide 0.1."""
    threads: Count = 2
    """Processor cores for the simulator that plans."""


FITTED: dict[Dynamics, dict[str, float]] = {
    "simulator": {"kappa": 60.0, "sigma": 0.6, "fine_sigma": 0.27},
    "learned": {"kappa": 20.0, "sigma": 0.3, "fine_sigma": 0.15},
}
"""Their defaults, by the dynamics."""


@dataclass(frozen=True)
class LearnedConfig:
    """How the ensemble is trained; none of it is read with dynamics=simulator."""

    rounds: Count = 30
    """Rounds of collecting rollouts and training the ensemble on all of them so far."""
    rollouts: Count = 40
    """Episodes per round; one ends at its time limit or when the task is lost. The first round acts at random."""
    updates: Count = 1000
    """Gradient steps per round, of networks that go on learning from one round to the next."""
    ensemble: Count = 3
    """Networks, trained on the same data in different order from different starts."""
    hidden: Count = 500
    """Width of the hidden layers. Source: ours; the paper's two of 250, with ReLU, leave twice as much unexplained."""
    layers: Count = 3
    """Hidden layers. Source: ours; the paper has 2."""
    norm: bool = True
    """LayerNorm and SiLU after each of them; false: ReLU, as in the paper. Source: ours."""
    batch_size: Count = 512
    """Transitions per update."""
    learning_rate: Positive = 1e-3
    """Adam's step size."""
