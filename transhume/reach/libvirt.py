"""Connections to libvirt daemons, shared by whoever senses or moves VMs.

Owns the opening of connections (once a host, reopened when dead, and one for each long call), the bounded pools
of threads that libvirt's blocking calls run in, which nobody waits for at the end, and libvirt's event loop,
which keep-alives and events need. Leaves out what the calls mean.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, TypeVar

from transhume.deployment.model import Hypervisor
from transhume.errors import ExtraMissing, HypervisorUnreachable, UsageError
from transhume.knowledge.model import HostName
from transhume.reach.threads import LooseThreads

if TYPE_CHECKING:
    import libvirt

T = TypeVar("T")

WhenOpened = Callable[[HostName, "libvirt.virConnect"], None]
"""Takes a host and its new connection, in the thread that opened it; raises nothing."""

THREADS, OPENINGS, LONG_CALLS = 32, 256, 256
"""At the same time, to all hosts together."""
OPENING_SECONDS = 10.0
CLOSING_SECONDS = 2.0
"""For all connections together."""
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 3


class Connections:
    """Connections to the libvirt daemons of a federation's hosts."""

    def __init__(self, hypervisors: Iterable[Hypervisor]) -> None:
        self._hypervisors = {hypervisor.host: hypervisor for hypervisor in hypervisors}
        self._open: dict[HostName, libvirt.virConnect] = {}
        self._opening: dict[HostName, asyncio.Future[libvirt.virConnect]] = {}
        self._when_opened: list[WhenOpened] = []
        self._threads = LooseThreads(THREADS, "libvirt")
        self._openings = LooseThreads(OPENINGS, "libvirt-opening")
        self._apart = LooseThreads(LONG_CALLS, "libvirt-apart")
        self._events = _start_events()

    @property
    def hosts(self) -> tuple[HostName, ...]:
        """The hosts that can be reached through here."""
        return tuple(self._hypervisors)

    def hypervisor(self, host: HostName) -> Hypervisor:
        """Return how a host is reached; raises `UsageError` for a host the deployment doesn't name."""
        try:
            return self._hypervisors[host]
        except KeyError:
            raise UsageError(f"host {host} is in no cloud of the deployment file") from None

    def when_opened(self, then: WhenOpened) -> None:
        """Have something done with each connection that is shared, the first of a host as well as later ones.

        It's done before anybody else gets the connection.
        """
        self._when_opened.append(then)

    async def call(self, host: HostName, what: Callable[["libvirt.virConnect"], T]) -> T:
        """Run a blocking call with a host's connection, in a thread.

        Raises `HypervisorUnreachable` when the host can't be connected to in time or the connection breaks,
        and libvirt's own error otherwise.
        """
        connection = await self._connection(host)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._call, host, connection, what)

    async def call_apart(self, host: HostName, what: Callable[["libvirt.virConnect"], T]) -> T:
        """Run a call that takes long over a connection of its own; errors as with `call`.

        A daemon works on so many calls of one connection at a time (libvirt's `max_client_requests`, 5), and
        while these last it reads nothing more from there: no question, no abortion, no sign of life. After
        half a minute it breaks the connection off.
        """
        await self._connection(host)  # which waits for a moment only
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._apart, self._call_apart, host, what)

    def _call_apart(self, host: HostName, what: Callable[["libvirt.virConnect"], T]) -> T:
        import libvirt

        connection = self._connect(self.hypervisor(host))
        try:
            return self._call(host, connection, what)
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    def _call(
        self,
        host: HostName,
        connection: "libvirt.virConnect",
        what: Callable[["libvirt.virConnect"], T],
    ) -> T:
        import libvirt

        try:
            return what(connection)
        except libvirt.libvirtError as error:
            if not connection.isAlive():
                raise self._unreachable(host, error) from error
            raise

    async def _connection(self, host: HostName) -> "libvirt.virConnect":
        known = self._open.get(host)
        if known is not None and known.isAlive():
            return known
        # To connect to a host that drops packets takes libvirt minutes, and nothing can cut that short: who
        # asks goes away after a moment, and who asks next waits for the same attempt, not in a thread of his.
        # A cloud that vanishes has many such hosts: theirs are no threads that calls wait for.
        opening = self._opening.get(host)
        if opening is None:
            loop = asyncio.get_running_loop()
            opening = loop.run_in_executor(self._openings, self._open_shared, host)
            self._opening[host] = opening
            opening.add_done_callback(lambda done: self._opened(host, done))
        await asyncio.wait({opening}, timeout=OPENING_SECONDS)
        if not opening.done():
            raise self._unreachable(host, f"no connection within {OPENING_SECONDS:.0f} s")
        return opening.result()

    def _opened(self, host: HostName, opening: "asyncio.Future[libvirt.virConnect]") -> None:
        del self._opening[host]
        if not opening.cancelled() and opening.exception() is None:
            self._open[host] = opening.result()

    def _open_shared(self, host: HostName) -> "libvirt.virConnect":
        opened = self._connect(self.hypervisor(host))
        for then in self._when_opened:
            then(host, opened)
        return opened

    def _connect(self, hypervisor: Hypervisor) -> "libvirt.virConnect":
        import libvirt

        try:
            opened = libvirt.open(hypervisor.uri)
            opened.setKeepAlive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            raise self._unreachable(hypervisor.host, error) from error
        return opened

    def _unreachable(self, host: HostName, seen: object) -> HypervisorUnreachable:
        return HypervisorUnreachable(host, self._hypervisors[host].uri, str(seen))

    def close(self) -> None:
        """Close what was opened, but wait for no host that doesn't answer. What migrates goes on without us."""
        for opening in tuple(self._opening.values()):
            if not opening.get_loop().is_closed():
                opening.cancel()  # what comes of it is for nobody
        wait(
            [self._openings.submit(_close, connection) for connection in self._open.values()],
            timeout=CLOSING_SECONDS,
        )
        self._open.clear()
        for threads in (self._threads, self._openings, self._apart):
            threads.shutdown(cancel_futures=True)


def _close(connection: "libvirt.virConnect") -> None:
    with contextlib.suppress(Exception):
        connection.close()


_events_lock = threading.Lock()
_events_thread: threading.Thread | None = None


def _start_events() -> threading.Thread:
    """Start libvirt's event loop, once a process: it must run before the first connection is opened."""
    global _events_thread  # noqa: PLW0603
    try:
        import libvirt
    except ImportError:
        raise ExtraMissing("libvirt", "talking to hypervisors") from None
    with _events_lock:
        if _events_thread is None:
            libvirt.registerErrorHandler(_ignore_error, None)
            libvirt.virEventRegisterDefaultImpl()
            _events_thread = threading.Thread(
                target=_run_events, name="libvirt-events", daemon=True
            )
            _events_thread.start()
    return _events_thread


def _run_events() -> None:
    import libvirt

    while True:
        libvirt.virEventRunDefaultImpl()


def _ignore_error(_context: object, _error: Any) -> None:
    """Keep libvirt from printing to stderr what it also raises."""
