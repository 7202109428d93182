"""Where a capture's bytes come from: a file or a part of one, a file that still grows, a pipe, standard input.

Owns opening and reading, nothing of what the bytes mean; whether they are packed is found out here, unpacking
them is `unpacking`'s. A source is read into memory that the caller owns, so that a file of any size takes no
more of it than one block. Reading waits for what comes late (a pipe, a file that grows), but not for a block to
be full: what is there now is handed over.
"""

import os
import select
import stat
import time
from pathlib import Path
from threading import Event
from typing import Protocol

from transhume.monitor.capture.unpacking import MAGIC_BYTES, Unpacking, packing_of

STANDARD_INPUT = Path("-")
_LOOK_AGAIN_SECONDS = 0.1
"""How often a file is asked whether it grew, and a silent pipe's reader whether it should stop."""
_FILL_SECONDS = 0.02
"""How long a pipe may make us wait for a fuller block once it has given something."""
_PIPE_BYTES = 1 << 20


class Source(Protocol):
    """A stream of bytes that ends, and that knows why."""

    @property
    def packed(self) -> bool:
        """Whether what is read was unpacked on the way."""

    @property
    def position(self) -> int:
        """How many bytes were read, as they lie on the disk or came through the pipe."""

    @property
    def stopped(self) -> str | None:
        """Where and why it ended before its proper end; None where it didn't."""

    def read(self, into: memoryview) -> int:
        """Read some bytes, at least one, and return how many; 0 at the end."""

    def close(self) -> None:
        """Let go of the file and of what reads it."""


def open_source(
    path: Path, *, stop: Event, follow: bool = False, idle_seconds: float | None = None
) -> Source:
    """Return the bytes of a file (of standard input for `-`), unpacked where they are packed.

    With `follow`, a regular file is read on as it grows, until `stop` is set or nothing was added for
    `idle_seconds`. `stop` ends the wait for a pipe, too.

    Raises:
        OSError: the file can't be opened, or not be read.
    """
    raw = _opened(path, stop, follow=follow, idle_seconds=idle_seconds)
    try:
        first = _first_bytes(raw)
    except BaseException:
        raw.close()
        raise
    begun = _Begun(first, raw)
    packing = packing_of(first)
    return begun if packing is None else Unpacking(begun, packing, stop)


def _opened(path: Path, stop: Event, *, follow: bool, idle_seconds: float | None) -> Source:
    if path == STANDARD_INPUT:
        return _Pipe(os.dup(0), stop)
    if path.exists() and not path.is_file() and not path.is_dir():
        # At once: a pipe that nobody writes to yet would keep us until somebody does, whatever `stop` says.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(file, True)
        return _Pipe(file, stop)
    if follow:
        return _GrowingFile(path, stop, idle_seconds)
    return StoredFile(path)


def _first_bytes(source: Source) -> bytes:
    """Read what says how the rest is packed; less only where there is no more."""
    found = b""
    buffer = memoryview(bytearray(MAGIC_BYTES))
    while len(found) < MAGIC_BYTES:
        count = source.read(buffer[: MAGIC_BYTES - len(found)])
        if not count:
            break
        found += buffer[:count]
    return found


class StoredFile:
    """A file as it is, or its bytes from `begin` to before `end`."""

    packed = False
    stopped: str | None = None

    def __init__(self, path: Path, begin: int = 0, end: int | None = None) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = end
        self.position = begin

    def read(self, into: memoryview) -> int:
        """Read some bytes; 0 at the end of the file or part."""
        if self._end is not None:
            into = into[: max(self._end - self.position, 0)]
        count = os.preadv(self._file, [into], self.position) if into else 0
        self.position += count
        return count

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class _GrowingFile:
    """A file that somebody is still writing, as `tail -f` reads it."""

    packed = False

    def __init__(self, path: Path, stop: Event, idle_seconds: float | None) -> None:
        self._path = path
        self._file = StoredFile(path)
        self._stop = stop
        self._idle_seconds = idle_seconds
        self._identity = _identity(path)
        self.stopped: str | None = None

    @property
    def position(self) -> int:
        return self._file.position

    def read(self, into: memoryview) -> int:
        silent_since = time.monotonic()
        while self.stopped is None:
            # Looked at before reading, so that what was written last is read all the same.
            lost, is_over = self._lost(), self._is_over(silent_since)
            if count := self._file.read(into):
                return count
            self.stopped = lost
            if is_over:
                return 0
            self._stop.wait(_LOOK_AGAIN_SECONDS)
        return 0

    def _is_over(self, silent_since: float) -> bool:
        silent_seconds = time.monotonic() - silent_since
        is_idle = self._idle_seconds is not None and silent_seconds >= self._idle_seconds
        return is_idle or self._stop.is_set()

    def close(self) -> None:
        self._file.close()

    def _lost(self) -> str | None:
        """Return why the file that we read won't grow any more."""
        try:
            size = self._path.stat().st_size
            if _identity(self._path) != self._identity:
                return f"byte {self.position}: another file took its name while it was followed"
        except FileNotFoundError:
            return f"byte {self.position}: the file was removed while it was followed"
        if size < self.position:
            return f"byte {self.position}: the file was cut to {size} bytes while it was followed"
        return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


class _Pipe:
    """Standard input, a named pipe, or whatever else gives its bytes but once."""

    packed = False
    stopped: str | None = None

    def __init__(self, file: int, stop: Event) -> None:
        self._file = file
        self._stop = stop
        self._poll = select.poll()
        self._poll.register(file, select.POLLIN)
        self.position = 0
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            _widen(file)

    def read(self, into: memoryview) -> int:
        """Read as much as comes without a pause."""
        while not self._poll.poll(_LOOK_AGAIN_SECONDS * 1000):
            if self._stop.is_set():
                return 0
        filled = 0
        while filled < len(into) and (not filled or self._poll.poll(_FILL_SECONDS * 1000)):
            count = os.readv(self._file, [into[filled:]])
            if not count:
                break
            filled += count
        self.position += filled
        return filled

    def close(self) -> None:
        os.close(self._file)


def _widen(pipe: int) -> None:
    """Let a pipe hold more, so that its two ends wait for each other less often."""
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        return  # users who aren't root have a common limit: it is slower, and as right


class _Begun:
    """A source whose first bytes were read to see what it is: they are handed out first."""

    packed = False

    def __init__(self, first: bytes, source: Source) -> None:
        self._first = first
        self._source = source

    @property
    def position(self) -> int:
        return self._source.position - len(self._first)

    @property
    def stopped(self) -> str | None:
        return self._source.stopped

    def read(self, into: memoryview) -> int:
        if not self._first:
            return self._source.read(into)
        count = len(self._first)
        into[:count] = self._first
        self._first = b""
        return count + self._source.read(into[count:])

    def close(self) -> None:
        self._source.close()
