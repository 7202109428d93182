"""Hears when domains stop and run, at every host, for whoever wants to know.

libvirt takes one listener of a kind for all domains of a connection, and refuses a second one silently enough:
so there is one for each host, on the connection that it has by now, and here it's told on. A listener keeps its
connection open in part, also a dead one: it's taken off where another follows.
"""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from transhume.errors import HypervisorUnreachable
from transhume.knowledge.model import HostName
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

OnLifecycle = Callable[[str, int, int], None]
"""Takes a domain's name, a lifecycle event and its detail, in libvirt's own thread."""


class Lifecycles:
    """The lifecycle events of all hosts that are reached by some connections."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._listeners: dict[HostName, list[OnLifecycle]] = {}
        self._heard: dict[HostName, tuple[libvirt.virConnect, int]] = {}
        """The connection that is listened on, and libvirt's number of the listener."""
        self._locks: dict[HostName, threading.Lock] = {}
        connections.when_opened(self._hear_anew)

    @asynccontextmanager
    async def told(self, host: HostName, listener: OnLifecycle) -> AsyncIterator[None]:
        """Tell a listener of a host's events for as long as the context lasts, if libvirt tells of them.

        A host that can't be reached tells of none until somebody reaches it.
        """
        import libvirt

        listeners = self._listeners.setdefault(host, [])
        listeners.append(listener)
        try:
            with suppress(libvirt.libvirtError, HypervisorUnreachable):
                await self.listen(host)
            yield
        finally:
            listeners.remove(listener)

    async def listen(self, host: HostName) -> None:
        """Listen on the connection that a host has by now, unless it's listened on already.

        Raises:
            HypervisorUnreachable: there is none.
        """
        await self._connections.call(host, partial(self._hear, host))

    def _hear_anew(self, host: HostName, connection: "libvirt.virConnect") -> None:
        import libvirt

        if host in self._listeners:
            with suppress(libvirt.libvirtError):
                self._hear(host, connection)

    def _hear(self, host: HostName, connection: "libvirt.virConnect") -> None:
        import libvirt

        with self._locks.setdefault(host, threading.Lock()):
            before = self._heard.get(host)
            if before is not None and before[0] is connection:
                return
            number = connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._tell, host
            )
            self._heard[host] = (connection, number)
            if before is not None:
                with suppress(libvirt.libvirtError):  # it can't tell its host, being dead
                    before[0].domainEventDeregisterAny(before[1])

    def _tell(
        self,
        _connection: object,
        domain: "libvirt.virDomain",
        event: int,
        detail: int,
        host: HostName,
    ) -> None:
        for listener in tuple(self._listeners.get(host, ())):
            listener(domain.name(), event, detail)
