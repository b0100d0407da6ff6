"""SQIL: imitation by rewarding nothing but the expert's own transitions (Reddy, Dragan & Levine 2019), on DrQ.

Every batch is half demonstrations and half the agent's replay (algorithm 1; `config/learners.py` allows no other
share), the former rewarded by one and the latter by zero, whatever they are: the reward is a label of where a
transition was drawn from and is stored nowhere. DrQ does the rest. No transition counts as the end of a task because of
a time limit: values are bootstrapped up to there, and the very last step, whose successor is not stored, is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vmil.baselines.drq import DrQ
from vmil.baselines.transitions import Transitions


class SQIL(DrQ):
    """DrQ with SQIL's labels as the reward."""

    def reward(self, step: Transitions) -> Tensor:
        """One in the expert's rows and zero in the agent's, (N,)."""
        if self.config.debug.use_ground_truth_reward:
            return super().reward(step)
        return sqil_reward(len(step), step.num_experts, step.action.device)


def sqil_reward(count: int, num_experts: int, device: torch.device) -> Tensor:
    """r = 1 for the first `num_experts` of `count` transitions, 0 for the others: (count,)."""
    return (torch.arange(count, device=device) < num_experts).float()
