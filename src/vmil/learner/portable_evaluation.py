"""A learner's policy, separate from it, to be scored."""

from __future__ import annotations

from torch import Tensor, nn

from vmil.evaluation.rollout import Rollout


class PortableEvaluation(nn.Module):
    """A portable evaluation policy; its state is all that the score depends on."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, image: Tensor, proprio: Tensor | None, is_first: Tensor) -> Tensor:
        """As `Policy`."""
        action: Tensor = self.policy(image, proprio, is_first)
        return action

    def judge(self, rollout: Rollout) -> dict[str, float]:
        """Metrics besides the score."""
        return {}
