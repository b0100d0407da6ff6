"""The model of the baoding task: gymnasium-robotics' Adroit hand, palm up, with position control and two balls.

Sources: the task is PDDM's (Nagabandi et al. 2019, "Deep dynamics models for learning dexterous manipulation"); the hand
is the Adroit of gymnasium-robotics, whose own actuators and sensors are dropped. Lengths are metres, angles radians.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vmil.config.errors import UserError
from vmil.envs.rendering import choose_backend

if TYPE_CHECKING:
    import mujoco

TIMESTEP = 0.0025  # seconds
SUBSTEPS = 40  # physics steps per control step
CONTROL_SECONDS = TIMESTEP * SUBSTEPS  # 10 Hz

# Joint: (start angle, lowest command, highest command), in the order of the model's joints.
JOINTS: dict[str, tuple[float, float, float]] = {
    "WRJ1": (0.0126, -0.52, 0.17),
    "WRJ0": (-0.398, -0.79, 0.61),
    "FFJ3": (0.379, -0.44, 0.44),
    "FFJ2": (0.0564, 0.0, 1.6),
    "FFJ1": (1.167, 0.0, 1.6),
    "FFJ0": (0.0407, 0.0, 1.6),
    "MFJ3": (0.265, -0.44, 0.44),
    "MFJ2": (-0.136, 0.0, 1.6),
    "MFJ1": (1.144, 0.0, 1.6),
    "MFJ0": (0.045, 0.0, 1.6),
    "RFJ3": (0.074, -0.44, 0.44),
    "RFJ2": (0.139, 0.0, 1.6),
    "RFJ1": (1.112, 0.0, 1.6),
    "RFJ0": (0.234, 0.0, 1.6),
    "LFJ4": (-0.022, 0.0, 0.7),
    "LFJ3": (-0.368, -0.44, 0.44),
    "LFJ2": (0.0, 0.0, 1.6),
    "LFJ1": (1.25, 0.0, 1.6),
    "LFJ0": (0.152, 0.0, 1.6),
    "THJ4": (-0.021, -1.0, 1.0),
    "THJ3": (0.374, 0.0, 1.3),
    "THJ2": (0.0939, -0.26, 0.26),
    "THJ1": (-0.126, -0.52, 0.52),
    "THJ0": (-0.536, -1.571, 0.0),
}
WRIST_GAIN, FINGER_GAIN = 5.0, 1.0  # N·m per radian of a position actuator
ACTION_SHARE = 0.9  # of the way from the start pose to either end of the command range, at action ±1

FOREARM, FOREARM_TILT = (0.0, -0.54, 0.19), -1.57  # position and turn about x: the palm looks up, the fingers to +y
WRIST_OFFSET, PALM_OFFSET = (0.0, 0.0, 0.396), (0.0, 0.0, 0.034)  # wrist in the forearm, palm in the wrist
BALL_RADIUS, BALL_MASS = 0.028, 0.043
BALL_STARTS = ((-0.029, -0.001, 0.19), (0.03, 0.01, 0.19))
BALLS, TARGETS = ("ball1", "ball2"), ("target1", "target2")
COLOURS = ((0.85, 0.1, 0.1), (0.1, 0.2, 0.9))  # of each ball; its target has the same, lighter

_SKELETON = """<mujoco model="baoding">
<include file="adroit_assets.xml"/>
<worldbody>
  <light pos="0 -0.4 1.5" dir="0 0.25 -1" diffuse="0.7 0.7 0.7" specular="0.1 0.1 0.1"/>
  <light pos="0.5 0.6 1.5" dir="-0.3 -0.4 -1" diffuse="0.3 0.3 0.3" specular="0 0 0" castshadow="false"/>
  <geom name="table" type="plane" size="1 1 0.1" rgba="0.25 0.3 0.35 1"/>
  <body name="forearm"><include file="adroit_model.xml"/></body>
</worldbody>
</mujoco>"""


def hand_directory() -> Path:
    """Where gymnasium-robotics keeps the Adroit hand, found without importing that package; UserError if it is absent."""
    spec = importlib.util.find_spec("gymnasium_robotics")
    if spec is None or spec.origin is None:
        raise UserError("env=baoding needs gymnasium-robotics, which is not installed: pip install gymnasium-robotics")
    return Path(spec.origin).parent / "envs" / "assets" / "adroit_hand"


def build_model(timestep: float = TIMESTEP) -> mujoco.MjModel:
    """Compile the scene: 24 hinge joints with one position actuator each, two free balls, two target markers."""
    choose_backend()  # mujoco settles on an OpenGL when it is imported
    import mujoco

    spec: Any = mujoco.MjSpec.from_string(_SKELETON, include=_includes(), assets=_meshes())
    for part in (*spec.sensors, *spec.actuators, *spec.materials, *spec.textures):
        if part.name not in ("MatViz", "MatColl"):  # what the hand is painted with
            part.delete()
    spec.option.timestep = timestep
    forearm = spec.body("forearm")
    forearm.pos = FOREARM[0]
    forearm.alt.euler = FOREARM[1]
    _add_actuators(spec)
    _add_balls(spec)
    _add_targets(spec)
    spec.worldbody.add_camera(name="above", pos=CAMERA[0], alt=mujoco.MjsOrientation(euler=CAMERA[1]), fovy=CAMERA[2])
    return spec.compile()
