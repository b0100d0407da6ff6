"""The model of the baoding task: gymnasium-robotics' Adroit hand, palm up, with position control and two balls.

Sources: the task is PDDM's (Nagabandi et al. 2019, "Deep dynamics models for learning dexterous manipulation"); the
hand is the Adroit of gymnasium-robotics, whose own actuators and sensors are dropped. Lengths are metres, angles
radians.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vmil.envs.rendering import choose_backend
from vmil.errors import UserError
from vmil.system.arrays import Floats

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
COLOURS = ((0.85, 0.1, 0.1), (0.1, 0.2, 0.9))  # of the balls
TARGET_COLOURS = ((1.0, 0.65, 0.1), (0.2, 0.95, 0.95))  # of each ball's target, a like hue
TARGET_RADIUS = 0.009
RESTING_DEPTH = -0.039  # y in the palm frame of a ball's centre, at rest on the palm
MARKER_HEIGHT = 0.045  # of a target's marker, straight above where the ball's centre should be: no ball hides it

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
    """Where gymnasium-robotics keeps the Adroit hand, found without importing it; UserError if it is not installed."""
    spec = importlib.util.find_spec("gymnasium_robotics")
    if spec is None or spec.origin is None:
        raise UserError("env=baoding needs gymnasium-robotics, which is not installed: pip install gymnasium-robotics")
    return Path(spec.origin).parent / "envs" / "assets" / "adroit_hand"


def build_model(timestep: float = TIMESTEP, light: bool = False) -> mujoco.MjModel:
    """Compile the scene: 24 hinge joints with one position actuator each, two free balls, two target markers.

    `light` is for planning: without dry friction in the joints and the solver's pass against slip, a physics step costs
    a third less, and a timestep of 0.005 s is still stable.
    """
    choose_backend()  # mujoco settles on an OpenGL backend when it is imported
    import mujoco

    directory = hand_directory()
    includes = {name: (directory / name).read_bytes() for name in ("adroit_assets.xml", "adroit_model.xml")}
    meshes = {path.name: path.read_bytes() for path in (directory / "resources" / "meshes").glob("*.stl")}
    spec: Any = mujoco.MjSpec.from_string(_SKELETON, include=includes, assets=meshes)
    for part in (*spec.sensors, *spec.actuators, *spec.materials, *spec.textures):
        if part.name not in ("MatViz", "MatColl"):  # the hand's own materials
            part.delete()
    spec.option.timestep = timestep
    spec.visual.quality.shadowsize, spec.visual.quality.offsamples = 1024, 4  # theirs, 4096 and 8, draw 3 times as long
    forearm = spec.body("forearm")
    forearm.pos = FOREARM
    forearm.quat = (math.cos(FOREARM_TILT / 2), math.sin(FOREARM_TILT / 2), 0.0, 0.0)
    _add_actuators(spec)
    _add_balls(spec)
    if light:
        spec.option.noslip_iterations = 0
        for joint in spec.joints:
            joint.frictionloss = 0.0
    return spec.compile()


def _add_actuators(spec: Any) -> None:
    import mujoco

    for name, (_, low, high) in JOINTS.items():
        actuator = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        gain = WRIST_GAIN if name.startswith("WR") else FINGER_GAIN
        actuator.gainprm[0], actuator.biasprm[1] = gain, -gain
        actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
        actuator.ctrllimited, actuator.ctrlrange = True, (low, high)


def _add_balls(spec: Any) -> None:
    import mujoco

    sphere = mujoco.mjtGeom.mjGEOM_SPHERE
    for name, start, colour in zip(BALLS, BALL_STARTS, COLOURS, strict=True):
        ball = spec.worldbody.add_body(name=name, pos=start)
        ball.add_freejoint(name=name)
        ball.add_geom(type=sphere, size=(BALL_RADIUS, 0, 0), mass=BALL_MASS, condim=4, rgba=(*colour, 1))
    for name, colour in zip(TARGETS, TARGET_COLOURS, strict=True):
        marker = spec.worldbody.add_body(name=name, mocap=True)  # moved by code, touches nothing
        marker.add_geom(type=sphere, size=(TARGET_RADIUS, 0, 0), contype=0, conaffinity=0, rgba=(*colour, 1))


def start_pose() -> Floats:
    """Angles (24,) of the joints at the start of an episode."""
    return np.array([start for start, _, _ in JOINTS.values()])


def command(action: Floats) -> Floats:
    """Commanded joint angles (..., 24) of an action (..., 24) in [-1, 1].

    0 is the start pose, ±1 nine tenths of the way from there to either end of the command range.
    """
    low, high = np.array([ends for _, *ends in JOINTS.values()]).T
    start = start_pose()
    return start + ACTION_SHARE * np.where(action > 0, action * (high - start), action * (start - low))
