"""Where a picture is taken from: one of the model's cameras, or a view of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from vmil.config.schema import EnvConfig
from vmil.errors import UserError

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class View:
    """A camera that is fixed in the world, whatever the model defines."""

    lookat: tuple[float, float, float]  # the point in the middle of the picture [m]
    distance: float  # from there [m]
    azimuth: float  # direction of sight, about the vertical axis [degrees]
    elevation: float  # of that direction; negative looks down [degrees]


Camera: TypeAlias = "int | View"  # a model's camera by its index, or a view


def find_camera(config: EnvConfig, model: mujoco.MjModel, views: Mapping[str, View] | None = None) -> Camera:
    """What `env.camera` names: one of the task's own `views`, else the model's camera of that name or index.

    UserError, naming all there are, if it is none of them.
    """
    own, wanted = views or {}, str(config.camera)
    if wanted in own:
        return own[wanted]
    names = [model.camera(index).name for index in range(model.ncam)]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < model.ncam:
        return int(wanted)
    listed = [*own, *(f"{index} ({name or 'unnamed'})" for index, name in enumerate(names))]
    raise UserError(f"env.camera={wanted} does not exist in {config.name}: it has {', '.join(listed) or 'none'}")


def aim(camera: mujoco.MjvCamera, wanted: Camera) -> None:
    """Point MuJoCo's abstract camera there."""
    import mujoco

    if isinstance(wanted, View):
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = wanted.lookat
        camera.distance, camera.azimuth, camera.elevation = wanted.distance, wanted.azimuth, wanted.elevation
    else:
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, wanted
