"""Who wants to know of lifecycle events hears of them, also of a host that couldn't be reached for a while."""

# ruff: noqa: N802  (libvirt's names)

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import libvirt
import pytest

from tests.unit.reach import fake_libvirt
from transhume.deployment.model import Hypervisor
from transhume.execute.hypervisor.lifecycles import Lifecycles
from transhume.knowledge.model import HostName
from transhume.reach import libvirt as reach
from transhume.reach.libvirt import Connections

HOST = HostName("a1")


class Domain:
    def name(self) -> str:
        return "vm1"


class Connection(fake_libvirt.Connection):
    """Takes one listener, as libvirt's do, and can be made to tell."""

    def domainEventRegisterAny(
        self, _domain: None, _kind: int, callback: Callable[..., None], host: HostName
    ) -> int:
        self.tell = lambda event: callback(self, Domain(), event, 1, host)
        return 7

    def domainEventDeregisterAny(self, _number: int) -> None:
        raise libvirt.libvirtError("client socket is closed")


class Daemon:
    """A libvirt daemon that can be away."""

    def __init__(self) -> None:
        self.away = False
        self.opened: list[Connection] = []

    def open(self, _uri: str) -> Connection:
        if self.away:
            raise libvirt.libvirtError("connection refused")
        self.opened.append(Connection())
        return self.opened[-1]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    daemon = Daemon()
    monkeypatch.setattr(libvirt, "open", daemon.open)
    monkeypatch.setattr(reach, "_start_events", lambda: None)
    return daemon


@pytest.fixture
def connections(daemon: Daemon) -> Iterator[Connections]:
    connections = Connections([Hypervisor(host=HOST, uri=HOST, peer_uri=HOST)])
    yield connections
    connections.close()


async def test_a_host_that_was_down_is_heard_of_once_it_is_reached(
    connections: Connections, daemon: Daemon
) -> None:
    heard: list[tuple[str, int, int]] = []
    lifecycles = Lifecycles(connections)
    daemon.away = True
    async with lifecycles.told(HOST, lambda *said: heard.append(said)):
        daemon.away = False
        await lifecycles.listen(HOST)
        daemon.opened[-1].tell(3)
    assert heard == [("vm1", 3, 1)]


async def test_a_host_is_heard_of_after_its_connection_was_opened_anew(
    connections: Connections, daemon: Daemon
) -> None:
    """Whoever it was opened for."""
    heard: list[tuple[str, int, int]] = []
    async with Lifecycles(connections).told(HOST, lambda *said: heard.append(said)):
        daemon.opened[-1].close()
        await connections.call(HOST, lambda _: None)
        assert len(daemon.opened) == 2
        daemon.opened[-1].tell(3)
    assert heard == [("vm1", 3, 1)]


class Reached:
    """Connections that are one by now."""

    def __init__(self) -> None:
        self.connection = libvirt.open("test:///default")

    def when_opened(self, _then: object) -> None:
        """Another is put in by hand."""

    async def call(self, _host: HostName, what: Callable[[Any], Any]) -> Any:
        return what(self.connection)


async def test_a_connection_that_another_has_followed_is_let_go() -> None:
    """libvirt holds it as long as somebody listens on it."""
    Connections([]).close()  # has libvirt's event loop run
    reached = Reached()
    lifecycles = Lifecycles(reached)  # type: ignore[arg-type]
    async with lifecycles.told(HOST, lambda *_: None):
        before = weakref.ref(reached.connection)
        reached.connection = libvirt.open("test:///default")
        gc.collect()
        assert before() is not None
        await lifecycles.listen(HOST)
        gc.collect()
        assert before() is None
