"""Pictures of a MuJoCo model without a screen: which OpenGL to use, and how good the picture has to be.

Nothing is forced at import: `choose_backend` runs before the first import of mujoco's or dm_control's OpenGL parts.
On a machine without a GPU, EGL and OSMesa are the same software rasteriser (llvmpipe) and equally fast; EGL comes first
because it also finds a GPU.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib
import logging
import os
import platform
import sys
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vmil.config.schema import EnvConfig, RenderProfile
from vmil.envs.cameras import Camera, View, aim, find_camera
from vmil.envs.probe import BackendReport, probe_backend
from vmil.envs.tasks import draws_itself
from vmil.errors import UserError, first_line

if TYPE_CHECKING:
    import mujoco

log = logging.getLogger(__name__)

BACKENDS: tuple[str, ...] = ("egl", "osmesa", "glfw") if sys.platform == "linux" else ("glfw",)
INSTALL_HINT = "install libegl1 and libgl1-mesa-dri (or libosmesa6), for example with `apt-get install`"
FOUND = "VMIL_OPENGL"  # the environment variable by which a process tells its children what renders here


def probe_backends() -> list[BackendReport]:
    """Try every backend of this platform, one child process each."""
    return [probe_backend(name) for name in BACKENDS]


def choose_backend() -> str:
    """Make MUJOCO_GL a backend that renders, and return it: the one it names already, else the first that works.

    Call it before mujoco, dm_control or torchrl (which imports mujoco) are imported: they fail on a broken choice in
    their own words. Raises UserError, naming the packages to install, when no backend works.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted and wanted not in BACKENDS:
        raise UserError(f"MUJOCO_GL={wanted!r} cannot render here: unset it or choose one of {', '.join(BACKENDS)}")
    if _found(wanted) is None:
        report = _find_working(wanted)
        wanted = report.name
        os.environ[FOUND] = "\t".join((platform.node(), wanted, report.renderer))
    os.environ["MUJOCO_GL"] = wanted  # in lower case: dm_control knows no other
    return wanted


def renderer_name() -> str:
    """What draws the pictures, as renderers differ slightly: the chosen backend and OpenGL's name for the renderer."""
    backend = choose_backend()
    return f"{backend} {_found(backend)}"


def prepare_rendering(env: EnvConfig) -> None:
    """Choose the backend, unless this environment draws its own pixels; UserError as `choose_backend`."""
    if not draws_itself(env.name):
        choose_backend()


def _found(backend: str) -> str | None:
    """The renderer behind it, as this process or a parent has found on this machine; None if neither has."""
    host, _, seen = os.environ.get(FOUND, "").partition("\t")
    name, _, renderer = seen.partition("\t")
    return renderer if backend and (host, name) == (platform.node(), backend) else None


def _find_working(wanted: str) -> BackendReport:
    failed = []
    for name in [wanted] if wanted else BACKENDS:
        report = probe_backend(name)
        if report.ok:
            return report
        failed.append(report)
    busy = any(report.timed_out for report in failed)
    if wanted:
        raise _unusable(wanted, report.error, busy)
    reasons = "; ".join(f"{report.name}: {report.error}" for report in failed)
    raise UserError(f"no headless OpenGL works on this machine ({reasons}): {_advice(busy)}")


def _unusable(backend: str, reason: str, busy: bool = False) -> UserError:
    return UserError(f"MUJOCO_GL={backend} does not render here ({reason}): unset it, or {_advice(busy)}")


def _advice(busy: bool) -> str:
    return f"try again when the machine is less busy, or {INSTALL_HINT}" if busy else INSTALL_HINT


@dataclass(frozen=True)
class RenderProfileSettings:
    """How a picture is drawn; `None` keeps the model's own value."""

    shadowsize: int | None  # texels along the side of a shadow map
    offsamples: int | None  # multisampling
    shadow: bool
    reflection: bool


# One 64x64 picture of the walker, drawn by one processor core: standard 17-24 ms, fast 0.8-1.3 ms.
PROFILES: dict[RenderProfile, RenderProfileSettings] = {
    "standard": RenderProfileSettings(shadowsize=None, offsamples=None, shadow=True, reflection=True),
    "fast": RenderProfileSettings(shadowsize=0, offsamples=0, shadow=False, reflection=False),
}

_open_renderers: weakref.WeakSet[Renderer] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    # OpenGL shuts its display down at exit, before the interpreter collects forgotten renderers, whose contexts would
    # then fail loudly. Exit handlers run last in, first out: register after OpenGL has, that is, with a context open.
    @atexit.register
    def _close_all() -> None:
        for renderer in list(_open_renderers):
            renderer.close()


class Renderer:
    """One camera's view of one model's data, square and upright, drawn off screen.

    The first drawing opens OpenGL. Several may live in one process. Each drawing makes its own context current and
    leaves it so, behind dm_control's back: do not mix with `physics.render` in one thread.
    """

    _opened = _closed = False

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, size: int, camera: Camera, profile: RenderProfile
    ) -> None:
        """The profile's quality is written into `model`, which must be this renderer's own."""
        self._backend = choose_backend()
        import mujoco

        self._mujoco: Any = mujoco
        self._model, self._data, self._size = model, data, size
        settings = PROFILES[profile]
        _apply_quality(model, settings, size)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] &= settings.shadow
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] &= settings.reflection
        self._option, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, size, size)
        self._camera = mujoco.MjvCamera()
        aim(self._camera, camera)

    def _open(self) -> None:
        mujoco = self._mujoco
        try:
            # Not mujoco.GLContext: that one was fixed when mujoco was first imported, perhaps before the choice.
            self._gl = importlib.import_module(f"mujoco.{self._backend}").GLContext(self._size, self._size)
            self._gl.make_current()
            self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        except Exception as error:
            raise _unusable(self._backend, first_line(error)) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._opened = True
        _open_renderers.add(self)
        _close_at_exit()

    def _open_anew(self) -> None:
        """Leave a context that failed as it is, and open another in its place."""
        for broken in (self._gl, self._context):
            # Kept for ever: freeing a broken context may end the process, and would delete by number in the new one.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(broken))
        self._opened = False
        self._open()

    def __call__(self) -> np.ndarray:
        """Draw the data as it is now: (size, size, 3) uint8, row 0 on top.

        A context that fails (its driver was restarted, say) is opened once more; UserError if that fails as well.
        """
        if self._closed:
            raise RuntimeError("this renderer is closed")
        if not self._opened:
            self._open()
        try:
            return self._draw()
        except Exception as error:  # noqa: BLE001  (mujoco's and OpenGL's own, of many kinds)
            log.warning("OpenGL failed (%s): its context is opened anew", first_line(error))
        try:
            self._open_anew()
            return self._draw()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"OpenGL ({self._backend}) stopped rendering: {first_line(error)}") from error

    def _draw(self) -> np.ndarray:
        mujoco = self._mujoco
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        self._gl.make_current()
        mujoco.mjv_updateScene(self._model, self._data, self._option, None, self._camera, everything, self._scene)
        mujoco.mjr_render(self._rect, self._scene, self._context)
        image = np.empty((self._size, self._size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, self._rect, self._context)
        return np.ascontiguousarray(image[::-1])  # OpenGL's first row is the bottom one

    def upload_terrain(self) -> None:
        """Send the model's height fields to OpenGL again, after a task has changed them."""
        if not self._opened:
            return
        self._gl.make_current()
        for field in range(self._model.nhfield):
            self._mujoco.mjr_uploadHField(self._model, self._context, field)

    def close(self) -> None:
        """Free the context; a second call does nothing."""
        self._closed = True
        if not self._opened:
            return
        self._opened = False
        self._gl.make_current()  # freeing deletes by number in whatever context is current: another renderer's, else
        self._context.free()
        self._gl.free()
        del self._context, self._gl

    def __del__(self) -> None:
        # Left to itself, the context would be freed while another renderer's is current, and empty that one instead.
        self.close()


def open_renderer(
    model: mujoco.MjModel, data: mujoco.MjData, config: EnvConfig, views: Mapping[str, View] | None = None
) -> Renderer:
    """A renderer as `config` asks for it; UserError if there is no such camera, in the model or among `views`."""
    return Renderer(model, data, config.image_size, find_camera(config, model, views), config.render_profile)


def _apply_quality(model: mujoco.MjModel, settings: RenderProfileSettings, size: int) -> None:
    # Read once, when the OpenGL context is made.
    if settings.shadowsize is not None:
        model.vis.quality.shadowsize = settings.shadowsize
    if settings.offsamples is not None:
        model.vis.quality.offsamples = settings.offsamples
    buffer = model.vis.global_
    buffer.offwidth, buffer.offheight = max(buffer.offwidth, size), max(buffer.offheight, size)
