"""Pictures of a MuJoCo model without a screen: which OpenGL to use, and how good the picture has to be.

Nothing is forced at import: `choose_backend` runs before the first import of mujoco's or dm_control's OpenGL parts.
On a machine without a GPU, EGL and OSMesa are the same software rasteriser (llvmpipe) and equally fast; EGL comes first
because it also finds a GPU.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vmil.config.errors import UserError
from vmil.config.schema import EnvConfig, RenderProfile
from vmil.envs.cameras import Camera, aim

if TYPE_CHECKING:
    import mujoco

BACKENDS: tuple[str, ...] = ("egl", "osmesa", "glfw") if sys.platform == "linux" else ("glfw",)
INSTALL_HINT = "install libegl1 and libgl1-mesa-dri (or libosmesa6), for example with `apt-get install`"

# Runs in a child process: a broken OpenGL can abort its process or leave half-loaded libraries behind.
_PROBE = """
import importlib, sys, time
import mujoco, numpy
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(64, 64)
context.make_current()
model = mujoco.MjModel.from_xml_string(
    "<mujoco><visual><quality shadowsize='0' offsamples='0'/></visual><worldbody><light pos='0 0 3'/>"
    "<geom type='plane' size='1 1 1'/><geom size='.1' pos='0 0 .1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
gpu = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, gpu)
scene, camera, rect = mujoco.MjvScene(model, 100), mujoco.MjvCamera(), mujoco.MjrRect(0, 0, 64, 64)
mujoco.mjv_defaultFreeCamera(model, camera)
image = numpy.zeros((64, 64, 3), numpy.uint8)
def frame():
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, mujoco.mjtCatBit.mjCAT_ALL.value, scene)
    mujoco.mjr_render(rect, scene, gpu)
    mujoco.mjr_readPixels(image, None, rect, gpu)
frame()
start = time.perf_counter()
for _ in range(5):
    frame()
seconds = (time.perf_counter() - start) / 5
assert image.max() > 0, "the picture is black"
print("frame_ms", 1000 * seconds, flush=True)
gpu.free()
context.free()
"""


@dataclass(frozen=True)
class BackendReport:
    """What one OpenGL backend did when asked for one 64x64 picture."""

    name: str
    ok: bool
    ms_per_frame: float | None  # of a nearly empty scene
    error: str  # "" when ok


def probe_backend(name: str, timeout: float = 60.0) -> BackendReport:
    """Render small pictures with one backend in a child process."""
    environment = dict(os.environ, MUJOCO_GL=name)
    if "OpenGL" in sys.modules:  # then it is not the user's setting but the backend's that this process has loaded
        environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-W", "ignore", "-c", _PROBE, name]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return BackendReport(name, False, None, f"no picture within {timeout:.0f} s")
    for line in done.stdout.splitlines():
        if line.startswith("frame_ms "):
            return BackendReport(name, True, float(line.split()[1]), "")
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return BackendReport(name, False, None, lines[-1] if lines else f"exit code {done.returncode}")


def probe_backends() -> list[BackendReport]:
    """Try every backend of this platform, one child process each."""
    return [probe_backend(name) for name in BACKENDS]


_found_working: set[str] = set()  # by this process


def choose_backend() -> str:
    """Make MUJOCO_GL a backend that renders, and return it: the one it names already, else the first that works.

    Call it before mujoco, dm_control or torchrl (which imports mujoco) are imported: they fail on a broken choice in
    their own words. Raises UserError, naming the packages to install, when no backend works.
    """
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    if wanted and wanted not in BACKENDS:
        raise UserError(f"MUJOCO_GL={wanted!r} cannot render here: unset it or choose one of {', '.join(BACKENDS)}.")
    if wanted not in _found_working:
        wanted = _find_working(wanted)
        _found_working.add(wanted)
    os.environ["MUJOCO_GL"] = wanted  # in lower case: dm_control knows no other
    return wanted


def prepare_rendering(env: EnvConfig) -> None:
    """Choose the backend, unless this environment draws its own pixels; UserError as `choose_backend`."""
    if env.name != "counting":
        choose_backend()


def _find_working(wanted: str) -> str:
    for name in [wanted] if wanted else BACKENDS:
        report = probe_backend(name)
        if report.ok:
            return name
    if wanted:
        raise _unusable(wanted, report.error)
    raise UserError(f"No headless OpenGL works on this machine: {INSTALL_HINT}.")


def _unusable(backend: str, reason: str) -> UserError:
    return UserError(f"MUJOCO_GL={backend} does not render here ({reason.rstrip('.')}): unset it, or {INSTALL_HINT}.")


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

    Several may live in one process. Each drawing makes its own context current and leaves it so, behind dm_control's
    back: do not mix with `physics.render` in one thread.
    """

    _closed = True  # until opened

    def __init__(
        self, model: mujoco.MjModel, data: mujoco.MjData, size: int, camera: Camera, profile: RenderProfile
    ) -> None:
        """Open a context; the profile's quality is written into `model`, which must be this renderer's own."""
        backend = choose_backend()
        import mujoco

        self._mujoco: Any = mujoco
        self._model, self._data, self._size = model, data, size
        settings = PROFILES[profile]
        _apply_quality(model, settings, size)
        try:
            # Not mujoco.GLContext: that one was fixed when mujoco was first imported, perhaps before the choice.
            self._gl = importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150.value)
        except Exception as error:
            raise _unusable(backend, (str(error).strip() or repr(error)).splitlines()[0]) from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=10_000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] &= settings.shadow
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] &= settings.reflection
        self._option, self._rect = mujoco.MjvOption(), mujoco.MjrRect(0, 0, size, size)
        self._camera = mujoco.MjvCamera()
        aim(self._camera, camera)
        self._closed = False
        _open_renderers.add(self)
        _close_at_exit()

    def __call__(self) -> np.ndarray:
        """Draw the data as it is now: (size, size, 3) uint8, row 0 on top."""
        if self._closed:
            raise RuntimeError("this renderer is closed")
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
        self._gl.make_current()
        for field in range(self._model.nhfield):
            self._mujoco.mjr_uploadHField(self._model, self._context, field)

    def close(self) -> None:
        """Free the context; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._gl.make_current()  # freeing deletes by number in whatever context is current: another renderer's, else
        self._context.free()
        self._gl.free()
        del self._context, self._gl

    def __del__(self) -> None:
        # Left to itself, the context would be freed while another renderer's is current, and empty that one instead.
        self.close()


def _apply_quality(model: mujoco.MjModel, settings: RenderProfileSettings, size: int) -> None:
    # Read once, when the OpenGL context is made.
    if settings.shadowsize is not None:
        model.vis.quality.shadowsize = settings.shadowsize
    if settings.offsamples is not None:
        model.vis.quality.offsamples = settings.offsamples
    buffer = model.vis.global_
    buffer.offwidth, buffer.offheight = max(buffer.offwidth, size), max(buffer.offheight, size)
