"""How the discriminator judges an evaluation; for diagnosis only."""

from __future__ import annotations

import torch
from torch import Tensor

from vmil.acting import PortableActing
from vmil.config.options import RewardMap
from vmil.discriminator.network import Discriminator, Triples
from vmil.discriminator.reward import reward_from_logit
from vmil.evaluation.rollout import Rollout
from vmil.learner.portable_evaluation import PortableEvaluation
from vmil.nets.mlp import eval_mode

Trace = list[tuple[Tensor, Tensor]]  # (N, F) and (N, A) of every step: what a policy saw and did


@torch.no_grad()
def agreement(discriminator: Discriminator, trace: Trace, rollout: Rollout, kind: RewardMap) -> dict[str, float]:
    """How well the reward that D implies, by the map of that `kind`, agrees with the environment's in an evaluation.

    Looks at its first N episodes, those that were played side by side before any other.
    """
    together = len(trace[0][0])
    steps = trace[: max(rollout.lengths[:together])]
    feats, actions = (torch.stack(parts) for parts in zip(*steps, strict=True))  # (T, N, F), (T, N, A)
    length = min(len(feats) - 1, *rollout.lengths[:together])
    triples = Triples(feats[:length], actions[:length], feats[1 : length + 1])
    with eval_mode(discriminator):
        logit = discriminator(discriminator.inputs(triples)).cpu()
    true = torch.stack([torch.from_numpy(reward[:length]) for reward in rollout.rewards[:together]], dim=1)
    metrics = {"eval/expert_prob": float(logit.sigmoid().mean())}
    reward = reward_from_logit(kind, logit)
    if true.std() > 0 and reward.std() > 0:  # of a constant there is no correlation
        both = torch.stack([reward.flatten(), true.flatten()])
        metrics["eval/reward_correlation"] = float(torch.corrcoef(both)[0, 1])
    return metrics


class TracedEvaluation(PortableEvaluation):
    """An evaluation policy with a copy of the discriminator that looks on."""

    def __init__(self, policy: PortableActing, discriminator: Discriminator, kind: RewardMap) -> None:
        super().__init__(policy)
        self.kind: RewardMap = kind
        self.discriminator = discriminator.spectator()
        self._trace: Trace = []
        policy.keep(self._trace)

    def judge(self, rollout: Rollout) -> dict[str, float]:
        """See `agreement`."""
        return agreement(self.discriminator, self._trace, rollout, self.kind)
