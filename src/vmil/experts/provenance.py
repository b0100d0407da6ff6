"""Where an asset comes from: versions and digests, for the cards of shipped files."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path


def versions(*packages: str) -> dict[str, str]:
    """Return the installed version of Python and of each package."""
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def digest(*parts: str) -> str:
    """Return the SHA-256 digest of several texts in hexadecimal."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the file's SHA-256 digest in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
