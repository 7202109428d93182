"""All that is seen of VMs at one site's bridge, as it happens.

Owns the sockets, on the event loop: of the bridge's ports for announcements, and of netlink for what the
bridge learns and which ports it has. Deciding what a sighting means is others' business, and so is at which
site a VM is by right. Nothing here waits for anything; what comes in is queued until somebody asks.
"""

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import suppress
from typing import Self

from transhume.errors import OverlayError, UsageError
from transhume.execute.overlay.plane.batch import KernelTables
from transhume.execute.overlay.plane.entries import Entry, entry_in, messages_in
from transhume.execute.overlay.plane.messages import (
    EXTERNALLY_LEARNED,
    NEW_NEIGHBOUR,
    behind_bridge,
)
from transhume.execute.overlay.sightings.announcements import AT_ONCE, announced, listen_at
from transhume.execute.overlay.sightings.damping import Damper
from transhume.execute.overlay.sightings.ports import PortChange, Ports, all_links, number_in
from transhume.execute.overlay.sightings.sighting import How, Missed, Sighting
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import inside, socket_in

DAMPING_SECONDS = 0.5
_LINKS, _NEIGHBOURS = 1 << 0, 1 << 2
_RECEIVE_BYTES, _DATAGRAM_BYTES = 4 << 20, 1 << 18
_FORCE_RECEIVE_BUFFER = 33


class Sightings:
    """What is seen at a bridge: `async with Sightings(...) as seen: async for each in seen: ...`.

    `leave_out` are the ports behind which no VM is: the tunnels. It never ends by itself; one task iterates.
    """

    def __init__(
        self,
        *,
        bridge: str,
        netns: str | None,
        leave_out: Collection[str],
        damping_seconds: float = DAMPING_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bridge = bridge
        self._netns = netns
        self._leave_out = frozenset(leave_out)
        self._clock = clock
        self._damper = Damper(damping_seconds)
        self._queue: asyncio.Queue[Sighting | Missed] = asyncio.Queue()
        self._has_missed = False
        """Whether that is told already, and nobody has come to it yet."""
        self._sockets: dict[int, socket.socket] = {}

    async def __aenter__(self) -> Self:
        """Begin to listen.

        Raises:
            OverlayError: there is no such bridge, or we aren't root.
        """
        self._loop = asyncio.get_running_loop()
        try:
            with inside(self._netns):
                self._watch(socket.if_nametoindex(self._bridge))
            self._kernel = socket_in(self._netns, socket.AF_NETLINK, socket.SOCK_RAW, 0)
        except (OSError, UsageError) as error:
            where = f" in namespace {self._netns}" if self._netns else ""
            raise OverlayError(f"can't listen at bridge {self._bridge}{where}: {error}") from error
        with suppress(PermissionError):
            self._kernel.setsockopt(socket.SOL_SOCKET, _FORCE_RECEIVE_BUFFER, _RECEIVE_BYTES)
        self._kernel.bind((0, _LINKS | _NEIGHBOURS))
        self._kernel.setblocking(False)
        self._look_at_links()
        self._loop.add_reader(self._kernel, self._hear_kernel)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._kernel)
        self._kernel.close()
        self._close_all()

    def __aiter__(self) -> AsyncIterator[Sighting | Missed]:
        return self

    async def __anext__(self) -> Sighting | Missed:
        told = await self._queue.get()
        if isinstance(told, Missed):
            self._has_missed = False
        return told

    def forget(self, mac: MacAddress) -> None:
        """Tell the next sighting of an address at once: it has gone elsewhere meanwhile."""
        self._damper.forget(mac)

    def present(self) -> tuple[Sighting, ...]:
        """Return which address the bridge has learnt at which port. Blocking; serves any thread.

        It takes milliseconds, but seconds where a guest has sent from hundreds of thousands of addresses.
        A bridge that is gone has learnt nothing.
        """
        with KernelTables(self._netns) as tables:
            try:
                entries = list(tables.entries(behind_bridge(self._bridge_index)))
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise
                return ()
        found = map(self._learnt, entries)
        return tuple(each for each in found if each is not None)

    def _watch(self, bridge: int) -> None:
        """Begin with a bridge, of which nothing is known yet; what was known of another holds no more."""
        self._close_all()
        self._bridge_index = bridge
        self._ports = Ports(bridge, self._leave_out)

    def _hear_kernel(self) -> None:
        for _ in range(AT_ONCE):
            try:
                datagram = self._kernel.recv(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # ENOBUFS: there was more than found room. Ports may have come and gone.
                self._tell_missed()
                self._look_at_links()
                continue
            for message in messages_in(datagram):
                if self._is_made_anew(message.kind, message.body):
                    self._tell_missed()
                    self._look_at_links()
                self._follow(self._ports.note(message.kind, message.body))
                self._hear_table(message.kind, message.body)

    def _is_made_anew(self, kind: int, body: bytes) -> bool:
        """Say whether the bridge's name is another one's by now, as after an `ifdown` and `ifup`."""
        return number_in(kind, body, self._bridge) not in (None, self._bridge_index)

    def _hear_table(self, kind: int, body: bytes) -> None:
        entry = entry_in(kind, body) if kind == NEW_NEIGHBOUR else None
        sighting = self._learnt(entry) if entry is not None else None
        if sighting is not None:
            self._tell(sighting)

    def _learnt(self, entry: Entry) -> Sighting | None:
        """Return what a line of the bridge's table says, if the bridge has learnt it from a frame."""
        port = self._ports.names.get(entry.device)
        by_us = entry.flags & EXTERNALLY_LEARNED
        if not entry.of_bridge or entry.bridge != self._bridge_index or by_us:
            return None
        if port is None or entry.mac is None:
            return None
        return Sighting(mac=entry.mac, port=port, ip=None, how=How.FRAME)

    def _look_at_links(self) -> None:
        with KernelTables(self._netns) as tables:
            answers = [(each.kind, each.body) for each in tables.messages(all_links())]
        numbers = (number_in(kind, body, self._bridge) for kind, body in answers)
        bridge = next((number for number in numbers if number is not None), self._bridge_index)
        if bridge != self._bridge_index:
            self._watch(bridge)
        self._follow(self._ports.note_all(answers))

    def _follow(self, changes: Iterable[PortChange]) -> None:
        for change in changes:
            self._close(change.device)
            if change.is_port:
                self._open(change.device, change.name)

    def _open(self, index: int, port: str) -> None:
        # It may be gone again already; then the kernel says so next.
        with suppress(OSError):
            opened = listen_at(self._netns, port)
            self._sockets[index] = opened
            self._loop.add_reader(opened, self._hear_port, opened, port)

    def _close(self, index: int) -> None:
        opened = self._sockets.pop(index, None)
        if opened is not None:
            self._loop.remove_reader(opened)
            opened.close()

    def _close_all(self) -> None:
        for index in tuple(self._sockets):
            self._close(index)

    def _hear_port(self, opened: socket.socket, port: str) -> None:
        for sighting in announced(opened, port):
            self._tell(sighting)

    def _tell(self, sighting: Sighting) -> None:
        if self._damper.passes(sighting, self._clock()):
            self._queue.put_nowait(sighting)

    def _tell_missed(self) -> None:
        if not self._has_missed:
            self._has_missed = True
            self._queue.put_nowait(Missed())
