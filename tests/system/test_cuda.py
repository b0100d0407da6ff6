"""When an NVIDIA GPU counts as one: torch is built for CUDA, and the driver knows that CUDA."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vmil.system import cuda


class Library:
    """A stand-in for libcuda."""

    def __init__(self, gpus: int, version: int, code: int = 0) -> None:
        self.gpus, self.version, self.code = gpus, version, code

    def cuInit(self, flags: int) -> int:
        return self.code

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.gpus
        return self.code

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0


@pytest.mark.parametrize(
    ("torch_says", "library", "present"),
    [
        ("'13.0'", Library(1, 13000), True),
        ("'13.0'", Library(8, 13020), True),
        ("'12.8'", Library(1, 13000), True),
        ("'12.8'", Library(1, 12020), True),  # of minor versions each runs the others
        ("'13.0'", Library(1, 12080), False),  # torch would find no GPU, and say little of it
        ("'13.0'", Library(0, 13000), False),
        ("'13.0'", Library(1, 13000, code=100), False),
        ("'13.0'", None, False),
        ("None", Library(1, 13000), False),
    ],
)
def test_a_gpu_that_torch_can_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, torch_says: str, library: Library | None, present: bool
) -> None:
    def load(name: str) -> Library:
        assert name == "libcuda.so.1"
        if library is None:
            raise OSError("cannot open shared object file")
        return library

    (tmp_path / "version.py").write_text(f"from typing import Optional\ncuda: Optional[str] = {torch_says}\n")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(cuda.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(cuda.ctypes, "CDLL", load)
    assert cuda.cuda_present() is present


@pytest.mark.parametrize(
    ("device", "found", "taken"),
    [("cuda", False, True), ("cpu", True, False), ("auto", True, True), ("auto", False, False), ("tpu", True, False)],
)
def test_only_auto_depends_on_the_machine(device: str, found: bool, taken: bool) -> None:
    asked = []

    def look() -> bool:
        asked.append(device)
        return found

    assert cuda.takes_gpu(device, look) is taken
    assert asked == (["auto"] if device == "auto" else [])
