"""A running guest's memory, read from outside while it runs: pages as they are at that moment.

The hypervisor keeps it in a memory file that its `/proc` shows (libvirt: `<memoryBacking>` with `memfd` and
shared access), or in memory of its own, which `/proc` shows too. A page that the guest writes to while it is
read may come out as it never was: such a page is content that nobody will refer to.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transhume.execute.migration.splitting import PAGE_BYTES

Pages = NDArray[np.uint8]
"""Whole pages, shape (n, PAGE_BYTES)."""

_CHUNK_BYTES = 4 << 20
_LEAST_BYTES = 16 << 20
"""A smaller mapping isn't a guest's memory."""
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.. \S+ \S+ (\d+) *(.*)")


class NoGuestMemory(Exception):
    """A VM's memory can't be found here."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a part of the memory is."""

    path: Path
    start: int
    length: int


def find_memory(pid: int) -> tuple[Stretch, ...]:
    """Say where the memory of a hypervisor's guest is.

    Raises:
        NoGuestMemory: there is no such process, or nothing that looks like a guest's memory.
    """
    try:
        found = _memory_files(pid) or _own_memory(pid)
    except OSError as error:
        raise NoGuestMemory(f"process {pid}: {error}") from error
    if not found:
        raise NoGuestMemory(f"process {pid} has no guest's memory")
    return found


def read_pages(stretches: tuple[Stretch, ...]) -> Iterator[Pages]:
    """Yield all pages that aren't empty, in pieces.

    Raises:
        OSError: the guest has gone.
    """
    for stretch in stretches:
        with stretch.path.open("rb", buffering=0) as memory:
            for at, length in _present(memory.fileno(), stretch):
                content = np.frombuffer(os.pread(memory.fileno(), length, at), np.uint8)
                pages = content[: len(content) // PAGE_BYTES * PAGE_BYTES].reshape(-1, PAGE_BYTES)
                full = pages[pages.view(np.uint64).any(axis=1)]
                if len(full):
                    yield full


def _memory_files(pid: int) -> tuple[Stretch, ...]:
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            if str(path.readlink()).startswith("/memfd:") and size >= _LEAST_BYTES:
                found.append(Stretch(path, 0, size))
    return tuple(found)


def _own_memory(pid: int) -> tuple[Stretch, ...]:
    """Find the largest anonymous mapping: the guest's, unless the hypervisor has a larger one of its own."""
    largest = (0, 0)
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if (fields := _MAPPING.fullmatch(line)) and fields[3] == "0" and not fields[4]:
            start, end = int(fields[1], 16), int(fields[2], 16)
            largest = max(largest, (end - start, start))
    length, start = largest
    return (Stretch(Path(f"/proc/{pid}/mem"), start, length),) if length >= _LEAST_BYTES else ()


def _present(fd: int, stretch: Stretch) -> Iterator[tuple[int, int]]:
    """Yield offsets and lengths of what is there; a memory file tells its holes."""
    sparse = stretch.path.parent.name == "fd"
    at, end = stretch.start, stretch.start + stretch.length
    while at < end:
        upto = min(end, at + _CHUNK_BYTES)
        if sparse:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA) // PAGE_BYTES * PAGE_BYTES
            except OSError:  # only a hole follows
                return
            upto = min(end, at + _CHUNK_BYTES, os.lseek(fd, at, os.SEEK_HOLE))
        yield at, upto - at
        at = upto
