"""Discriminator-actor-critic (Kostrikov et al. 2019) on DrQ: what the VMIL paper names as the natural fix for SQIL.

Off-policy adversarial imitation: a discriminator tells demonstrations from the whole replay, without importance
weights, under a gradient penalty; its logit is the agent's reward, computed anew at every update. It reads DrQ's image
features, and its loss does not reach the encoder. The critic learns from the agent's transitions alone.

The paper's absorbing states undo the bias of a reward that always says "go on" or always "stop" in tasks that
terminate. The logit has both signs, and walker and cheetah end by their time limit alone, which is nobody's last
state; so there are none here, and a task that terminates would need them. D is SiLU with PyTorch's initial weights, as
`vmil_plus`'s is, where the published program takes tanh and orthogonal ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vmil.baselines.drq import DrQ
from vmil.baselines.transitions import Transitions, transitions
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.discriminator.loss import discriminator_loss
from vmil.discriminator.network import Discriminator
from vmil.discriminator.reward import reward_from_logit
from vmil.learner.stepping import Part


class DAC(DrQ):
    """DrQ whose reward comes from a discriminator of (feature, action)."""

    def __init__(self, config: Config, action_size: int, proprio_size: int) -> None:
        super().__init__(config, action_size, proprio_size)
        c = config.dac
        self.discriminator = Discriminator(
            self.critic.features, action_size, c.units, c.layers, "silu", next_state=False, spectral=False
        )

    def learn(self, batch: Batch) -> None:
        """One update: the discriminator, then DrQ on the agent's own transitions with its output as reward."""
        if self.config.debug.use_ground_truth_reward:
            super().learn(batch)
            return
        step = transitions(batch)
        expert, agent = self.discriminator_inputs(step)
        self.fit_discriminator(expert, agent)
        self.improve(step.agents(), self.adversarial_reward(agent))

    @torch.no_grad()
    def discriminator_inputs(self, step: Transitions) -> tuple[Tensor, Tensor]:
        """D's input for the expert's and for the agent's rows, each (·, F + P + A), detached."""
        seen = step.observation.views(1, self.config.pixels.shift)
        feat = self.critic.feat(self.critic.encoder(seen.image), seen.proprio)
        inputs = torch.cat([feat, step.action], -1)
        return inputs[: step.num_experts], inputs[step.num_experts :]

    def fit_discriminator(self, expert: Tensor, agent: Tensor) -> None:
        """One step of D on cross-entropy and gradient penalty."""
        c = self.config.dac
        with self.stopwatch.stage("discriminator", self.device):
            loss, metrics = discriminator_loss(
                self.discriminator,
                expert,
                agent,
                std=0.0,
                penalty="input",
                penalty_scale=c.penalty_scale,
                penalty_target=c.penalty_target,
            )
            self.step("disc", loss, [Part("disc", self.discriminator)])
        self.means.add(metrics)

    @torch.no_grad()
    def adversarial_reward(self, agent: Tensor) -> Tensor:
        """r(D) of the agent's transitions, (N,)."""
        return reward_from_logit(self.config.dac.reward, self.discriminator(agent))

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """DrQ's three, then the discriminator's."""
        own = torch.optim.Adam(self.discriminator.parameters(), lr=self.config.dac.lr, fused=True)
        return super().make_optimizers() | {"disc": own}
