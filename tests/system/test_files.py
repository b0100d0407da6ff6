"""Files that are whole or as they were before."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from vmil.errors import UserError
from vmil.system import files
from vmil.system.files import replace_file, whole_directory, write_atomically


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


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with whole_directory(out) as fresh:
        (fresh / "new").write_text("new")
        assert not out.exists()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert (out / "new").read_text() == "new"


def test_a_directory_that_cannot_be_made_whole_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(FileNotFoundError), whole_directory(tmp_path / "out", replaces=True) as fresh:
        (fresh / "new" / "of no directory").touch()
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/old"]


def test_only_a_directory_that_replaces_takes_the_place_of_files(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with pytest.raises(OSError, match="not empty"), whole_directory(tmp_path / "out"):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
    with whole_directory(tmp_path / "out", replaces=True):
        pass
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_while_a_directory_is_replaced_costs_neither_the_old_nor_the_new(tmp_path: Path, renames: int) -> None:
    out, replace = tmp_path / "out", os.replace
    made: list[Path] = []
    out.mkdir()
    (out / "old").touch()
    with pytest.MonkeyPatch.context() as patch:

        def killed(source: Path, target: Path) -> None:
            if len(made) == renames:
                patch.setattr(files.os, "replace", lambda *_: None)  # nor is anything done after it
                patch.setattr(files.shutil, "rmtree", lambda *_, **__: None)
                raise KeyboardInterrupt
            made.append(source)
            replace(source, target)

        patch.setattr(files.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt), whole_directory(out, replaces=True) as fresh:
            (fresh / "new").touch()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"old", "new"}
    with pytest.raises(ZeroDivisionError), whole_directory(out, replaces=True):
        raise ZeroDivisionError
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/old"]


def test_a_directory_that_cannot_take_the_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out", os.replace
    out.mkdir()
    (out / "old").touch()

    def refused(source: Path, target: Path) -> None:
        if source.name == ".out.part":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refused)
    with pytest.raises(OSError, match="Input/output error"), whole_directory(out, replaces=True):
        pass
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["out", "out/old"]


@pytest.mark.parametrize(("number", "said"), [(errno.EINVAL, None), (errno.EIO, "Input/output error")])
def test_a_file_system_that_cannot_sync_directories_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str | None
) -> None:
    fsync = os.fsync

    def only_files(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", only_files)
    with pytest.raises(OSError, match=said) if said else nullcontext():
        replace_file(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_two_machines_with_one_process_number_may_write_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One begins and ends between the other's writing and renaming."""
    fsync, path = os.fsync, tmp_path / "x"

    def meanwhile(handle: int) -> None:
        monkeypatch.setattr(files.os, "fsync", fsync)
        replace_file(path, b"theirs")
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", meanwhile)
    replace_file(path, b"ours")
    assert path.read_bytes() == b"ours"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
