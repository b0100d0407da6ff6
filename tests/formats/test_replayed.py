"""Physics states of every simulated task are replayed: shipped ones pass, shifted actions and absurd states do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vmil import cli
from vmil.config.load import load_config
from vmil.data.formats.checks import Findings
from vmil.data.formats.source import SourceEpisode
from vmil.data.recording import read_recording
from vmil.exchange.replay_alignment import Replayer

ASSETS = Path(cli.__file__).parent / "assets"


def verdict(replayer: Replayer, action: np.ndarray, physics: np.ndarray) -> str:
    image = np.zeros((len(physics), 1, 1, 3), np.uint8)
    found = Findings()
    replayer.check(SourceEpisode("e", image, action, physics=physics), found)
    return found.verdict


def test_a_task_at_rest_replays_as_well() -> None:
    """Without an action the mass stays where it is, to the last bit."""
    replayer = Replayer(load_config(["env=dmc:point_mass-easy"]).env)
    states = np.tile([0.1, 0.05, 0.0, 0.0], (4, 1))
    try:
        assert verdict(replayer, np.zeros((3, 2), np.float32), states) == "ok; replays (error 0e+00)"
        assert verdict(replayer, np.ones((3, 2), np.float32), states).startswith("refused: its actions")
    finally:
        replayer.close()


@pytest.mark.parametrize("env", ["walker", "sawyer", "baoding"])
def test_shipped_states_replay_and_others_do_not(env: str) -> None:
    replayer = Replayer(load_config([f"env={env}"]).env)
    paths = sorted((ASSETS / env / "demos").glob("demo_*.npz"))
    demos = [read_recording(path) for path in paths[:: len(paths) // 2]]
    try:
        for demo in demos:
            assert demo.physics is not None
            assert verdict(replayer, demo.action, demo.physics).startswith("ok; replays (error")
            rolled = verdict(replayer, np.roll(demo.action, 3, axis=0), demo.physics)
            assert rolled.startswith("refused: its actions do not lead from state to state")
        assert demo.physics is not None
        for value in (1e3, 1.7e308):
            assert verdict(replayer, demo.action, np.full_like(demo.physics, value)).startswith("refused: its actions")
        led_to = verdict(replayer, np.roll(demo.action, 1, axis=0), demo.physics[:-1])
        assert "taken one step earlier: alignment=led_to" in led_to
        closed = verdict(replayer, np.roll(demo.action, 1, axis=0), demo.physics)  # a state more: led_to has as many
        assert closed.endswith("taken one step earlier")
        other = verdict(replayer, demo.action, demo.physics[:, 1:])
        assert f"physics states of {demo.physics.shape[1] - 1} numbers" in other
        assert "not replayed: a single state" in verdict(replayer, demo.action[:1], demo.physics[:1])
    finally:
        replayer.close()
