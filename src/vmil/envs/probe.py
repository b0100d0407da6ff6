"""Whether an OpenGL backend draws a picture here, asked in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import psutil

PATIENCE = 10  # times the timeout that a probe may take as long as it works
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
from OpenGL import GL
print("renderer", GL.glGetString(GL.GL_RENDERER).decode(), GL.glGetString(GL.GL_VERSION).decode())
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
    renderer: str = ""  # what draws: OpenGL's own name and version of it
    timed_out: bool = False


def probe_backend(name: str, timeout: float = 60.0) -> BackendReport:
    """Render small pictures with one backend in a child process.

    It is given up once it has been idle for `timeout` seconds, that is, has used next to no processor time, or after
    ten times as long: on a machine that is busy with other work it is slow, and not broken.
    """
    environment = dict(os.environ, MUJOCO_GL=name)
    if "OpenGL" in sys.modules:  # then it is not the user's setting but the backend's that this process has loaded
        environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-W", "ignore", "-c", _PROBE, name]
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with child:
        try:
            output, errors = _patiently(child, timeout)
        except subprocess.TimeoutExpired as error:
            child.kill()
            late = f"no picture within {error.timeout:.0f} s, as when the machine is too busy or the driver hangs"
            return BackendReport(name, False, None, late, timed_out=True)
        except BaseException:  # Ctrl-C: the child must not outlive its parent
            child.kill()
            raise
    said = dict(line.split(maxsplit=1) for line in output.splitlines() if " " in line)
    if "frame_ms" in said:
        return BackendReport(name, True, float(said["frame_ms"]), "", said.get("renderer", ""))
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return BackendReport(name, False, None, lines[-1].rstrip(".") if lines else f"exit code {child.returncode}")


def _patiently(child: subprocess.Popen[str], timeout: float) -> tuple[str, str]:
    """Standard output and error of a child that ends; TimeoutExpired with the seconds waited if it hangs."""
    spent = 0.0
    for attempt in range(1, 1 + PATIENCE):
        try:
            return child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            before, spent = spent, _cpu_seconds(child)
            if spent - before < 0.01 * timeout or attempt == PATIENCE:
                raise subprocess.TimeoutExpired(child.args, attempt * timeout) from None
    raise AssertionError("the last attempt returns or raises")


def _cpu_seconds(child: subprocess.Popen[str]) -> float:
    try:
        times = psutil.Process(child.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
