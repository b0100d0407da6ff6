"""Behaviour cloning from pixels: regression of the expert's actions on stacked, randomly shifted frames.

Encoder, stack and shifts are DrQ's, so that the comparison is of what is learnt from and not of what is looked with.
Nothing is collected: a round is `training.updates_per_epoch` updates on the demonstrations, after which the clock moves
on by `training.frames_per_epoch` frames that nobody played. So a curve of it has points where the other methods' have
theirs, though it means something against wall-clock and updates only.
"""

from __future__ import annotations

import torch

from vmil.baselines.drq import UNCLIPPED
from vmil.baselines.networks import Actor, Encoder
from vmil.baselines.policy import StackPolicy
from vmil.baselines.transitions import stacked
from vmil.config.schema import Config
from vmil.data.transition import Batch
from vmil.learner.device import choose_device, use_bf16
from vmil.learner.module import Part
from vmil.learner.recorded import RecordedModule


class BC(RecordedModule):
    """Encoder and actor, of whose distribution only the mode is taught and used."""

    def __init__(self, config: Config, action_size: int, proprio_size: int) -> None:
        super().__init__(config)
        self.encoder = Encoder(config.pixels, config.env.image_size, use_bf16(config, choose_device(config)))
        self.actor = Actor(self.encoder.outputs, action_size, proprio_size, config.pixels)

    def learn(self, batch: Batch) -> None:
        """One step on E ‖mode π(· | s) − a‖²: the likelihood of a normal of fixed scale around the mode."""
        seen = stacked(batch, slice(None)).views(1, self.config.pixels.shift)
        error = self.actor(self.encoder(seen.image), seen.proprio).mode() - batch.action[-1]  # (N, A)
        loss = error.square().sum(-1).mean()
        self.step("actor", 0, loss, [Part("actor", self, UNCLIPPED)])
        self.means.add({"actor/loss": loss.detach(), "actor/cloning_error": error.detach().abs().mean()})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One for all."""
        return torch.optim.Adam(self.parameters(), lr=self.config.bc.lr, fused=True)

    def exploration_policy(self) -> StackPolicy:
        """Asked for by the run, and never made to act."""
        return self.evaluation_policy()

    def evaluation_policy(self) -> StackPolicy:
        """Acts for the score."""
        return StackPolicy(self.encoder, self.actor, self.config.pixels.frame_stack, deterministic=True)
