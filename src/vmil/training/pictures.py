"""What the model and the discriminator think, as pictures."""

from __future__ import annotations

from vmil.data.transition import Batch
from vmil.learner.module import ImitationModule
from vmil.tracking.pictures import open_loop_panel
from vmil.tracking.tracker import Tracker

PANEL_COLUMNS = 16  # time steps of an open-loop panel, at most


def log_pictures(tracker: Tracker, learner: ImitationModule, batch: Batch, frames: int) -> None:
    """A histogram of rewards, and an open-loop prediction of `batch`, as far as the learner has such.

    Open loop, the first column of the batch is the expert's, the last the agent's.
    """
    rewards = learner.reward_histogram()
    if rewards is not None:
        tracker.histogram("reward/histogram", rewards, frames)
    pictures = learner.open_loop_pictures(batch)
    if pictures is not None:
        truth, model = pictures  # (T, B, H, W, 3)
        stride = -(-len(truth) // PANEL_COLUMNS)
        tracker.image("model/open_loop", open_loop_panel(truth[:, [0, -1]], model[:, [0, -1]], stride), frames)
