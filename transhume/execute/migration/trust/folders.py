"""Folders with keys in them: written whole or not at all, for their owner only, and never over anything.

A folder is filled under another name beside its own and renamed at the end, which the file system does at once
and refuses where something is in the way.
"""

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from transhume.errors import UsageError

SECRET = 0o600
PUBLIC = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file to be written."""

    name: str
    content: bytes = field(repr=False)
    mode: int


def make_folder(folder: Path, *files: File) -> None:
    """Make a folder of mode 0700 with files in it; one that is there has to be empty.

    Raises:
        UsageError: something is in the way, or it can't be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name[:200]}.", dir=folder.parent))
        try:
            for file in files:
                _write(unfinished / file.name, file.content, file.mode)
            _sync(unfinished)
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _sync(folder.parent)
    except OSError as error:
        raise _cannot(folder, error) from error


def replace(path: Path, content: bytes, mode: int) -> None:
    """Put a new file in the place of another, at once.

    Raises:
        UsageError: it can't be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            _write(unfinished, content, mode)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise _cannot(path, error) from error


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot(path: Path, error: OSError) -> UsageError:
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY):
        return UsageError(
            f"{path} is there already, and nothing is written over it; name a new folder"
        )
    return UsageError(f"can't write {path} ({error.strerror or error}); name another folder")
