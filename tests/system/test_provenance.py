"""Which code made a result."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from vmil.system.provenance import git_commit


def test_a_package_within_another_project_has_no_commit_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "theirs" / "site-packages" / "provenance.py"
    package.parent.mkdir(parents=True)
    package.touch()
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "theirs"]
    for arguments in (["init", "-q"], commit):
        subprocess.run(["git", *arguments], cwd=tmp_path / "theirs", check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vmil.system.provenance.__file__", str(package))
        assert git_commit() == "unknown"
        subprocess.run(["git", "add", "."], cwd=tmp_path / "theirs", check=True)
        assert re.fullmatch(r"[0-9a-f]{40}\+?", git_commit())
