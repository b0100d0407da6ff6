"""Where a result or an asset comes from: versions of packages and of the code itself, and digests of files."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
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


def git_commit() -> str:
    """The commit of the code that runs, with `+` if it was changed since; `unknown` outside a checkout of its own."""
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)  # a package within another project is not its
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(where: Path, *args: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    done = subprocess.run(
        ["git", *args], cwd=where, capture_output=True, text=True, check=True, timeout=10, env=environment
    )
    return done.stdout.strip()
