"""The hypervisors of one machine: where they come with a migration, and the memory and images of their guests.

A gateway has those of its own machine (`Here`), and through a relay at each other host of its site that host's.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Protocol

from transhume.execute.migration.machine.guest_images import find_images
from transhume.execute.migration.machine.guest_memory import (
    NoGuestMemory,
    Pages,
    Stretch,
    find_memory,
    read_pages,
)
from transhume.execute.migration.machine.sockets import accept, connect, listen

SOCKETS = ("ram", "disks")
"""A migration's sockets, by their numbers."""


def sockets_of(folder: PurePosixPath, migration: str) -> tuple[PurePosixPath, ...]:
    """Name a migration's sockets, as hypervisors see them: the same at both sites."""
    return tuple(folder / f"{migration}-{name}" for name in SOCKETS)


class Part(StrEnum):
    """What can be read of a guest that runs."""

    MEMORY = "memory"
    IMAGES = "images"
    """The disk images that are its own."""


class Doors(Protocol):
    """Where a source's hypervisor comes with one migration."""

    async def accept(self, number: int) -> socket.socket:
        """Wait for its next connection to one of the migration's sockets."""
        ...

    def close(self) -> None:
        """Let nobody in any more."""
        ...


class Hypervisors(Protocol):
    """Those of one machine. Sockets are named as they see them."""

    async def open_doors(self, migration: str) -> Doors:
        """Listen where a source's hypervisor will come with a migration.

        Raises:
            OSError: that can't be had.
        """
        ...

    async def connect(self, path: PurePosixPath) -> socket.socket:
        """Connect to where a destination's hypervisor listens, or will in a moment.

        Raises:
            OSError: it doesn't come, or refuses.
        """
        ...

    async def running(self) -> tuple[str, ...]:
        """Name the VMs that run there.

        Raises:
            OSError: nobody says.
        """
        ...

    async def look_for(self, vm: str, part: Part) -> None:
        """Return if a VM's memory, or its images, can be read.

        Raises:
            NoGuestMemory: they can't.
        """
        ...

    def pages(self, vm: str, part: Part) -> AsyncGenerator[Pages, None]:
        """Yield all pages, or blocks, that aren't empty, as they are at that moment.

        Raises:
            NoGuestMemory: they can't be read, or can't any more.
        """
        ...


def make_sockets_folder(folder: Path) -> None:
    """Make a folder that hypervisors may find sockets in, and not list, where there is none."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)


class Here:
    """The hypervisors of this machine.

    Args:
        sockets: their folder of migrations' sockets, as this process sees it.
        seen: the same, as they see it.
        pids: where libvirt writes their process numbers.
    """

    def __init__(self, sockets: Path, seen: PurePosixPath, pids: Path) -> None:
        self._sockets, self._seen, self._pids = sockets, seen, pids

    def make_folder(self) -> None:
        """Make the folder of sockets, where there is none."""
        make_sockets_folder(self._sockets)

    def place(self, path: PurePosixPath) -> Path:
        """Say where a socket is for this process.

        Raises:
            OSError: it's none of a migration's.
        """
        if path.parent != self._seen or path.name == "..":
            raise OSError(f"{path} isn't in {self._seen}")
        return self._sockets / path.name

    async def open_doors(self, migration: str) -> "LocalDoors":
        """Listen at a migration's sockets."""
        return LocalDoors([self.place(path) for path in sockets_of(self._seen, migration)])

    async def connect(self, path: PurePosixPath) -> socket.socket:
        """Connect to a path, which may take a moment to be there."""
        return await connect(self.place(path))

    async def running(self) -> tuple[str, ...]:
        """Name the VMs whose hypervisors have process numbers here."""
        return tuple(sorted(path.stem for path in self._pids.glob("*.pid")))

    async def look_for(self, vm: str, part: Part) -> None:
        """See that a VM's memory, or its images, can be read."""
        await asyncio.to_thread(self._find, vm, part)

    async def pages(self, vm: str, part: Part) -> AsyncGenerator[Pages, None]:
        """Yield what isn't empty; read in threads."""
        pieces = iter(read_pages(await asyncio.to_thread(self._find, vm, part)))
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        except OSError as error:
            raise NoGuestMemory(f"{vm} has gone: {error}") from error

    def _find(self, vm: str, part: Part) -> tuple[Stretch, ...]:
        if vm not in {path.stem for path in self._pids.glob("*.pid")}:
            raise NoGuestMemory(f"{self._pids} has no process number of {vm}")
        try:
            pid = int((self._pids / f"{vm}.pid").read_text())
            return find_memory(pid) if part is Part.MEMORY else find_images(pid)
        except (OSError, ValueError) as error:
            raise NoGuestMemory(str(error)) from error


class LocalDoors:
    """Unix sockets that listen, until closed.

    Raises:
        OSError: one can't be made; then none is left.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._listeners: list[socket.socket] = []
        try:
            for path in paths:
                self._listeners.append(listen(path))
        except OSError:
            self.close()
            raise

    async def accept(self, number: int) -> socket.socket:
        """Wait for the next connection to one of them."""
        return await accept(self._listeners[number])

    def close(self) -> None:
        """Take those away that were made."""
        for listener, path in zip(self._listeners, self._paths, strict=False):
            listener.close()
            path.unlink(missing_ok=True)
