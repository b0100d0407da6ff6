"""Files that are whole or as they were before."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vmil.config import files
from vmil.config.errors import UserError
from vmil.config.files import replace_file, write_atomically


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file on a disk that is full from now on."""
    path = tmp_path / "x"
    replace_file(path, b"old")
    return path


@pytest.fixture
def full_disk(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)


def test_a_file_takes_the_place_of_the_one_before_and_its_directory_is_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x"
    for content in (b"old", memoryview(b"new")):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in path.parent.iterdir()] == ["x"]


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(old: Path) -> None:
    with pytest.raises(UserError, match=r"no space is left on the disk to write .*x \(0\.0 MiB\)"):
        write_atomically(old, b"new")
    assert old.read_bytes() == b"old"
    assert [entry.name for entry in old.parent.iterdir()] == ["x"]


@pytest.mark.usefixtures("full_disk")
def test_who_can_go_on_without_the_file_is_told_what_the_system_says(old: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        replace_file(old, b"new")
    assert old.read_bytes() == b"old"


def test_a_directory_that_was_taken_away_does_not_come_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "gone" / "x", b"new")
    assert not (tmp_path / "gone").exists()
