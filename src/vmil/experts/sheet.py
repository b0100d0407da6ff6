"""A contact sheet: what demonstrations look like, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange

from vmil.config.schema import EnvConfig
from vmil.data.recording import read_recording
from vmil.envs.factory import render_states
from vmil.tracking.pictures import contact_sheet, write_png

ROWS, COLUMNS = 10, 8  # demonstrations at most, and moments of each


def write_sheet(path: Path, env: EnvConfig, demos: Sequence[Path]) -> None:
    """Draw up to ten of the demonstrations, evenly chosen, a row each, from their first state to their last."""
    rows = np.linspace(0, len(demos) - 1, min(ROWS, len(demos))).round().astype(int)
    moments = []  # (R, S), each (K, S)
    for row in rows:
        physics = read_recording(demos[row]).physics
        assert physics is not None  # a recorder's demonstrations are states
        moments.append(physics[np.linspace(0, len(physics) - 1, COLUMNS).round().astype(int)])
    states = rearrange(np.stack(moments), "row column state -> (row column) state")
    write_png(path, contact_sheet(render_states(env, states), COLUMNS))
