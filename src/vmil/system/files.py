"""Files and directories that a kill, a power cut or a full disk leaves whole: as they were, or as they were to be."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmil.errors import UserError


def write_atomically(path: Path, payload: bytes | memoryview) -> None:
    """As `replace_file`, in a directory that is made if there is none.

    Raises UserError if the disk is full or the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, payload)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space is left on the disk to write {path} ({len(payload) / 2**20:.1f} MiB)") from error
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def replace_file(path: Path, payload: bytes | memoryview) -> None:
    """Writes a file that is either whole or as it was before, whatever happens meanwhile; OSError if the disk refuses.

    It makes no directory: one that was taken away meanwhile is not to come back.
    """
    # Containers that share a file system may have equal process numbers.
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        with open(partial, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())  # or a power cut after the rename may leave an empty file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """A rename survives a power cut only once its directory is on disk too; some shared file systems cannot do that."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(handle)


@contextmanager
def whole_directory(out: Path, replaces: bool = False) -> Iterator[Path]:
    """A fresh directory beside `out`, which takes its place if the block ends well and is gone if it does not.

    replaces: the directory that `out` was before is removed then; otherwise OSError if it holds something. At every
    moment one of the two is there: what a kill between two renames left aside, the next call puts back.
    """
    fresh, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    if old.is_dir() and not out.exists():
        os.replace(old, out)
    for left in (fresh, old):  # by a killed process
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if replaces and out.is_dir() and not out.is_symlink():
            os.replace(out, old)
        os.replace(fresh, out)
    finally:
        if old.is_dir() and not out.exists():
            os.replace(old, out)
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
