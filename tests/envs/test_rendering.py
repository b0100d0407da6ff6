"""Which OpenGL is used, what a person hears when none works, and that pictures are right and contexts apart."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from vmil.data.worker_pool import _surroundings
from vmil.envs import rendering
from vmil.envs.probe import BackendReport, probe_backend
from vmil.envs.rendering import PROFILES, Renderer, choose_backend, renderer_name
from vmil.errors import UserError

RED_ABOVE_BLUE = """
<mujoco><visual><headlight ambient="1 1 1"/></visual><worldbody>
  <camera pos="0 -3 0" xyaxes="1 0 0 0 0 1"/>
  <geom size=".5" pos="0 0 .7" rgba="1 0 0 1"/><geom size=".5" pos="0 0 -.7" rgba="0 0 1 1"/>
</worldbody></mujoco>"""


@pytest.fixture
def no_choice_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setattr(rendering, "BACKENDS", ("egl", "osmesa", "glfw"))
    monkeypatch.setenv(rendering.FOUND, "")


def _fake_probe(monkeypatch: pytest.MonkeyPatch, working: set[str], busy: bool = False) -> list[str]:
    tried = []

    def probe(name: str) -> BackendReport:
        tried.append(name)
        return BackendReport(name, name in working, None, f"no {name}", f"{name}'s own", timed_out=busy)

    monkeypatch.setattr(rendering, "probe_backend", probe)
    return tried


def test_first_working_backend_is_chosen_and_set_once(monkeypatch, no_choice_yet) -> None:
    tried = _fake_probe(monkeypatch, {"osmesa", "glfw"})
    assert choose_backend() == "osmesa" == os.environ["MUJOCO_GL"]
    assert choose_backend() == "osmesa"
    assert tried == ["egl", "osmesa"]


def test_users_choice_is_honoured(monkeypatch, no_choice_yet) -> None:
    tried = _fake_probe(monkeypatch, {"egl", "osmesa"})
    monkeypatch.setenv("MUJOCO_GL", "OSMesa")
    assert choose_backend() == "osmesa" == os.environ["MUJOCO_GL"]
    assert tried == ["osmesa"]


def test_users_choice_that_fails_is_not_replaced_in_silence(monkeypatch, no_choice_yet) -> None:
    tried = _fake_probe(monkeypatch, {"egl"})
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(
        UserError, match=r"^MUJOCO_GL=osmesa does not render here \(no osmesa\): unset it, or .*libosmesa6"
    ):
        choose_backend()
    assert tried == ["osmesa"]


def test_unknown_choice_is_one_sentence(monkeypatch, no_choice_yet) -> None:
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(UserError, match=r"^MUJOCO_GL='vulkan' .*egl, osmesa, glfw$"):
        choose_backend()


def test_without_any_opengl_reasons_and_packages_are_named(monkeypatch, no_choice_yet) -> None:
    _fake_probe(monkeypatch, set())
    said = r"\(egl: no egl; osmesa: no osmesa; glfw: no glfw\): install libegl1 and libgl1-mesa-dri.*libosmesa6"
    with pytest.raises(UserError, match=said) as caught:
        choose_backend()
    assert "\n" not in str(caught.value)
    assert os.environ["MUJOCO_GL"] == ""  # so that a later try, after the installation, probes again


def test_a_machine_that_is_too_busy_to_tell_is_not_only_told_to_install(monkeypatch, no_choice_yet) -> None:
    _fake_probe(monkeypatch, set(), busy=True)
    for wanted in ("", "egl"):
        monkeypatch.setenv("MUJOCO_GL", wanted)
        with pytest.raises(UserError, match="try again when the machine is less busy, or install"):
            choose_backend()


def test_what_a_parent_found_out_is_not_tried_again_on_the_same_machine(monkeypatch, no_choice_yet) -> None:
    tried = _fake_probe(monkeypatch, {"egl", "osmesa"})
    assert choose_backend() == "egl"
    found = os.environ[rendering.FOUND]  # which a child inherits with MUJOCO_GL
    assert _surroundings() == {"MUJOCO_GL": "egl", rendering.FOUND: found}
    assert renderer_name() == "egl egl's own"
    assert tried == ["egl"]
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    choose_backend()
    assert tried == ["egl", "osmesa"]
    monkeypatch.setattr(platform, "node", lambda: "another")
    choose_backend()
    assert tried == ["egl", "osmesa", "osmesa"]


def test_probe_reports_a_backend_that_does_not_exist() -> None:
    report = probe_backend("nonsense")
    assert not report.ok
    assert report.ms_per_frame is None
    assert report.error


def test_probe_times_the_chosen_backend() -> None:
    report = probe_backend(choose_backend())
    assert report.ok
    assert report.error == ""
    assert report.ms_per_frame is not None
    assert report.ms_per_frame > 0
    assert renderer_name() == f"{report.name} {report.renderer}"
    assert len(report.renderer) > len("llvmpipe")


def _scene(size: int = 32, profile: str = "fast") -> tuple:
    choose_backend()
    import mujoco

    model = mujoco.MjModel.from_xml_string(RED_ABOVE_BLUE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data, Renderer(model, data, size, 0, profile)


def test_picture_is_upright_and_in_rgb() -> None:
    _, _, renderer = _scene()
    image = renderer()
    renderer.close()
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    above, below = image[8, 16].astype(int), image[23, 16].astype(int)
    assert above[0] > 100 > above[2]
    assert below[2] > 100 > below[0]


def test_profiles_set_the_quality_before_the_context_exists() -> None:
    for profile, settings in PROFILES.items():
        model, _, renderer = _scene(profile=profile)
        renderer()
        expected = settings.shadowsize if settings.shadowsize is not None else model.vis.quality.shadowsize
        assert renderer._context.shadowSize == expected
        assert (renderer._context.offSamples == 0) == (settings.offsamples == 0)
        renderer.close()


def test_pictures_larger_than_the_models_buffer() -> None:
    _, _, renderer = _scene(size=700)  # MuJoCo's default buffer is 640 x 480
    assert renderer().shape == (700, 700, 3)
    renderer.close()


def test_closed_or_forgotten_renderers_leave_others_alone() -> None:
    _, _, first = _scene()
    expected = first()
    _, _, second = _scene()
    first.close()
    first.close()
    assert (second() == expected).all()
    _, _, third = _scene()
    del second  # never closed: collected while the third's context is current
    assert (third() == expected).all()
    third.close()
    with pytest.raises(RuntimeError, match="closed"):
        third()


def test_a_context_that_failed_spoils_none_that_follows() -> None:
    _, _, renderer = _scene(profile="standard")
    expected, draw = renderer(), renderer._draw

    def fail() -> np.ndarray:
        renderer._draw = draw
        raise RuntimeError("lost")

    renderer._draw = fail
    for _ in range(3):
        assert (renderer() == expected).all()
    renderer.close()


EXIT_WITHOUT_CLOSING = """
from vmil.config.schema import EnvConfig
from vmil.envs.factory import make_env
config = EnvConfig(image_size=16)
kept = make_env(config, 0)
first = kept.reset()["image"]
make_env(config, 1).reset()
other = make_env(config, 0)
assert (other.reset()["image"] == first).all()
other.close()
kept.set_episode(0)
assert (kept.reset()["image"] == first).all()
kept._renderer._open_anew()
kept.set_episode(0)
assert (kept.reset()["image"] == first).all()
print("done")
"""


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_exit_without_closing_is_silent(backend: str) -> None:
    if not probe_backend(backend).ok:
        pytest.skip(f"{backend} does not work here")
    done = subprocess.run(
        [sys.executable, "-c", EXIT_WITHOUT_CLOSING],
        env=dict(os.environ, MUJOCO_GL=backend, PYOPENGL_PLATFORM="")
        | {rendering.FOUND: f"{platform.node()}\t{backend}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_choice_that_breaks_later_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "choose_backend", lambda: "nonsense")
    with pytest.raises(
        UserError, match=r"^MUJOCO_GL=nonsense does not render here \(No module named 'mujoco.nonsense'\)"
    ):
        _scene()[-1]()
