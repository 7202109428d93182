"""Segments of pages on disk: guest memory at rest, unreadable without a key that lives only in this process.

A segment is written once, under AES in counter mode, with the number of the attempt in the counter: any page of
it can be read alone. The file has no name and goes with the process, as the key does. Whether what is read is
what was written is not checked here: every frame that is made from it is.
"""

import errno
import os
import secrets
import tempfile
from ctypes import CDLL, c_long
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

_LIBC = CDLL(None)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
"""Modes of fallocate(2)."""
_BLOCK_BYTES = 16
_LEFT_TO_OTHERS = 20
"""One part in so many of a disk isn't taken: others have to live on it, too."""


class Vault:
    """Encrypted segments of one size, in one nameless file."""

    def __init__(self, folder: Path, segment_bytes: int) -> None:
        self._segment_bytes = segment_bytes
        self._key = secrets.token_bytes(32)
        self._kept: dict[int, tuple[int, int]] = {}
        """By segment: its place in the file, and which attempt at writing it was."""
        self._attempts = 0
        self._free: list[int] = []
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  (closed in `close`)

    @property
    def kept_bytes(self) -> int:
        """How much is kept here."""
        return len(self._kept) * self._segment_bytes

    def numbers(self) -> tuple[int, ...]:
        """Name the segments that are kept here."""
        return tuple(self._kept)

    def put(self, segment: int, content: bytes | memoryview) -> None:
        """Keep a segment under its number, of which there is none yet.

        Raises:
            OSError: the disk doesn't take it.
        """
        self._attempts += 1  # no counter is used twice, or the key would be given away
        place = self._free[-1] if self._free else len(self._kept)
        secret = self._crypt(self._attempts, 0, content)
        try:
            if os.pwrite(self._file.fileno(), secret, place * self._segment_bytes) < len(secret):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._give_back(place)
            raise
        if self._free:
            self._free.pop()
        self._kept[segment] = place, self._attempts

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """Return a part of a segment; `offset` is a multiple of 16.

        Raises:
            OSError: the disk doesn't give it.
        """
        place, attempt = self._kept[segment]
        found = os.pread(self._file.fileno(), length, place * self._segment_bytes + offset)
        return self._crypt(attempt, offset, found)

    def drop(self, segment: int) -> None:
        """Forget a segment: the disk has its room back, and its place is used again."""
        place, _ = self._kept.pop(segment)
        self._free.append(place)
        self._give_back(place)

    def close(self) -> None:
        """Forget everything, the key first."""
        self._key = b""
        self._kept.clear()
        self._file.close()

    def _give_back(self, place: int) -> None:
        """Make a hole in the file, where its disk has holes; elsewhere it stays as it is."""
        offset, length = c_long(place * self._segment_bytes), c_long(self._segment_bytes)
        _LIBC.fallocate(self._file.fileno(), _KEEP_SIZE | _PUNCH_HOLE, offset, length)

    def _crypt(self, attempt: int, offset: int, content: bytes | memoryview) -> bytes:
        counter = attempt.to_bytes(8, "big") + (offset // _BLOCK_BYTES).to_bytes(8, "big")
        cipher = Cipher(AES256(self._key), CTR(counter)).encryptor()
        return cipher.update(content) + cipher.finalize()


def spare_bytes(folder: Path) -> int:
    """Return what segments may still take of the disk that a folder is on, or will be; less than 0 is too much.

    Raises:
        OSError: the disk doesn't say, or nothing can be written there, whatever it says.
    """
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "nothing can be written there", str(there))
    disk = os.statvfs(there)
    return (disk.f_bavail - disk.f_blocks // _LEFT_TO_OTHERS) * disk.f_frsize
