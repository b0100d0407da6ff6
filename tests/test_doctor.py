"""The doctor's findings, and its verdict."""

import re

import pytest

from vmil import doctor
from vmil.envs import rendering
from vmil.envs.probe import BackendReport
from vmil.errors import UserError


@pytest.fixture
def quick(monkeypatch):
    """A doctor without its slow measurements."""
    monkeypatch.setattr(doctor, "_matmul_ms", lambda dtype: 10.0)
    monkeypatch.setattr(doctor, "_frame_ms", lambda profile: 4.0)
    monkeypatch.setattr(doctor, "_sawyer_ms", lambda: 9.0)
    monkeypatch.setattr(rendering, "choose_backend", lambda: "osmesa")


def test_it_is_ready_when_one_backend_renders(quick, monkeypatch):
    reports = [
        BackendReport("egl", False, None, "no display"),
        BackendReport("osmesa", True, 2.5, ""),
    ]
    monkeypatch.setattr(rendering, "probe_backends", lambda: reports)
    lines = []
    assert doctor.examine(lines.append)
    found = {line[:20].strip(): line[21:] for line in lines}
    assert found["render egl"] == "no display"
    assert found["render osmesa"] == "works, 2.5 ms a frame"
    assert found["walker, fast"] == "4.0 ms a frame"
    assert found["torch"].startswith("2.")
    assert lines[-1] == "ready"
    for what in ("python", "cpu", "cpu cores", "memory", "disk here", "bf16 on the cpu", "gpu", "MUJOCO_GL"):
        assert what in found or f"{what} 0" in found


@pytest.fixture
def egl_works(quick, monkeypatch):
    """A machine on which that renders."""
    monkeypatch.setattr(rendering, "probe_backends", lambda: [BackendReport("egl", True, 1.0, "")])


def test_memory_is_found_where_sysconf_does_not_know_of_it(egl_works, monkeypatch):
    monkeypatch.setattr(doctor.os, "sysconf", refuse("unrecognized configuration name"))  # as on macOS
    lines = []
    assert doctor.examine(lines.append)
    [memory] = [line for line in lines if line.split()[0] == "memory" and "limit" not in line]
    assert re.fullmatch(r"memory +[1-9]\d*\.\d GiB, \d+\.\d available", memory)


def refuse(sentence):
    """What complains with that sentence when it is asked."""

    def complain():
        raise UserError(sentence)

    return complain


def test_a_broken_simulator_is_named_and_the_others_work(egl_works, monkeypatch):
    monkeypatch.setattr(doctor, "_sawyer_ms", refuse("env sawyer needs Meta-World"))
    lines = []
    assert doctor.examine(lines.append)
    assert "sawyer               env sawyer needs Meta-World" in lines


def test_it_is_not_ready_when_none_does(quick, monkeypatch):
    monkeypatch.setattr(rendering, "probe_backends", lambda: [BackendReport("egl", False, None, "no display")])
    lines = []
    assert not doctor.examine(lines.append)
    assert lines[-1].startswith("not ready")


def test_it_is_not_ready_when_mujoco_gl_forbids_what_works(egl_works, monkeypatch):
    monkeypatch.setattr(rendering, "choose_backend", refuse("MUJOCO_GL=osmesa does not render"))
    lines = []
    assert not doctor.examine(lines.append)
    assert lines[-1] == "not ready: MUJOCO_GL names another than what works, so nothing can be trained from pixels"


def test_a_check_that_breaks_does_not_end_the_examination(egl_works, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", broken)
    lines = []
    assert doctor.examine(lines.append)
    assert any(line.startswith("disk") and "cannot be examined" in line for line in lines)


def broken(path):
    raise OSError("no such disk")
