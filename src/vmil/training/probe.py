"""What the discriminator and the model have learnt; for diagnosis only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vmil.data.transition import Batch, previous_actions
from vmil.discriminator.network import Discriminator, Triples
from vmil.nets.mlp import eval_mode
from vmil.world_model.model import WorldModel, preprocess

CONTEXT = 5  # frames that the model sees before it predicts open-loop


@torch.no_grad()
def discriminator_accuracy(
    discriminator: Discriminator, expert: Triples, replayed: Triples, dream_logit: Tensor | None
) -> dict[str, Tensor]:
    """Shares of demonstrations and replay, and of demonstrations and dreams, that D sorts rightly, without noise.

    Posteriors against posteriors, and the same demonstrations against the dreams that D judged after its step (H, N):
    if it is right about the dreams only, it tells filter from dream, not who acts.
    """
    with eval_mode(discriminator):
        logit_expert, logit_replayed = (discriminator(discriminator.inputs(side.flat())) for side in (expert, replayed))
    known = (logit_expert > 0).float().mean()
    found = {"disc/replay_accuracy": 0.5 * (known + (logit_replayed <= 0).float().mean())}
    if dream_logit is not None:
        found["disc/dream_accuracy"] = 0.5 * (known + (dream_logit <= 0).float().mean())
    return found


@torch.no_grad()
def open_loop_pictures(model: WorldModel, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Truth and the model's open-loop prediction after `CONTEXT` filtered frames, both (T, B, 64, 64, 3) uint8."""
    before = previous_actions(batch.action, batch.is_first)
    context = min(CONTEXT, len(batch.image) - 1)  # of short sequences at least the last frame is dreamt
    dreamt = model.open_loop(preprocess(batch.image), batch.proprio, before, batch.is_first, context)
    pictures = ((dreamt + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return batch.image.cpu().numpy(), pictures.cpu().numpy()
