"""Behaviour cloning from pixels: regression of the expert's actions on stacked, randomly shifted frames.

Encoder, stack and shifts are DrQ's, so that the methods differ in what they learn from and not in how they see.
Nothing is collected: in a round the clock moves on by `training.frames_per_epoch` frames that nobody played, and
`training.updates_per_epoch` updates on the demonstrations follow. So its curve has points where those of the other
methods do, but is meaningful only against wall-clock and updates.
"""

from __future__ import annotations

import torch

from vmil.baselines.networks import Actor, Encoder
from vmil.baselines.policy import StackPolicy
from vmil.baselines.transitions import stacked
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.learner.device import choose_device, use_bf16
from vmil.learner.module import ImitationModule
from vmil.learner.stepping import Part


class BC(ImitationModule):
    """Encoder and actor, of whose distribution only the mode is trained and used."""

    def __init__(self, config: Config, action_size: int, proprio_size: int) -> None:
        super().__init__(config)
        self.encoder = Encoder(config.pixels, config.env.image_size, use_bf16(config, choose_device(config)))
        self.actor = Actor(self.encoder.outputs, action_size, proprio_size, config.pixels)

    def learn(self, batch: Batch) -> None:
        """One step on E ‖mode π(· | s) − a‖²: the likelihood of a normal of fixed scale around the mode."""
        seen = stacked(batch, slice(None)).views(1, self.config.pixels.shift)
        error = self.actor(self.encoder(seen.image), seen.proprio).mode() - batch.action[-1]  # (N, A)
        loss = error.square().sum(-1).mean()
        self.step("actor", loss, [Part("actor", self)])
        self.means.add({"actor/loss": loss.detach(), "actor/cloning_error": error.detach().abs().mean()})

    def make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """One for everything, the encoder too."""
        return {"actor": torch.optim.Adam(self.parameters(), lr=self.config.bc.lr, fused=True)}

    def exploration_policy(self) -> StackPolicy:
        """The run asks for it, but it never acts."""
        return self.evaluation_policy()

    def evaluation_policy(self) -> StackPolicy:
        """The policy that is evaluated."""
        return StackPolicy(self.encoder, self.actor, self.config.pixels.frame_stack, deterministic=True)
