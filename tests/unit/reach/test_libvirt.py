"""Connections to hypervisors: shared, reopened when dead, and waited for in vain only for a moment."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import libvirt
import pytest

from tests.unit.reach.fake_libvirt import Connection
from transhume.deployment.model import Hypervisor
from transhume.errors import HypervisorUnreachable
from transhume.knowledge.model import HostName
from transhume.reach import libvirt as reach
from transhume.reach.libvirt import Connections

A1, B1 = HostName("a1"), HostName("b1")


class Daemons:
    """Libvirt daemons: a1 answers, all others let whoever connects wait."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.let = threading.Event()

    def open(self, uri: str) -> Connection:
        self.opened.append(uri)
        if uri != "a1":
            assert self.let.wait(10)
        return Connection()


@pytest.fixture
def daemons(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemons]:
    daemons = Daemons()
    monkeypatch.setattr(libvirt, "open", daemons.open)
    monkeypatch.setattr(reach, "_start_events", lambda: None)
    monkeypatch.setattr(reach, "OPENING_SECONDS", 0.01)
    yield daemons
    daemons.let.set()


@pytest.fixture
def connections(daemons: Daemons) -> Iterator[Connections]:
    connections = Connections(Hypervisor(host=host, uri=host, peer_uri=host) for host in (A1, B1))
    yield connections
    connections.close()


async def test_one_connection_serves_all_until_it_dies(
    connections: Connections, daemons: Daemons
) -> None:
    first = await connections.call(A1, lambda c: c)
    assert await connections.call(A1, lambda c: c) is first
    first.close()
    assert await connections.call(A1, lambda c: c) is not first
    assert daemons.opened == ["a1", "a1"]


async def test_a_host_that_drops_packets_holds_nobody_up_for_long(
    connections: Connections, daemons: Daemons
) -> None:
    """However often it is asked, one thread alone waits for it, and what comes of that is used."""
    for _ in range(50):
        with pytest.raises(HypervisorUnreachable, match="no connection within"):
            await connections.call(B1, lambda c: c)
    assert daemons.opened == ["b1"]
    await connections.call(A1, lambda c: c)
    daemons.let.set()
    async with asyncio.timeout(5):
        while True:
            try:
                await connections.call(B1, lambda c: c)
                break
            except HypervisorUnreachable:
                await asyncio.sleep(0)
    assert daemons.opened == ["b1", "a1"]


async def test_many_hosts_that_drop_packets_hold_up_nobody_elses_calls(daemons: Daemons) -> None:
    silent = [HostName(f"b{number}") for number in range(reach.THREADS)]
    connections = Connections(
        Hypervisor(host=host, uri=host, peer_uri=host) for host in (A1, *silent)
    )
    with closing(connections):
        known = await connections.call(A1, lambda c: c)
        for host in silent:
            with pytest.raises(HypervisorUnreachable, match="no connection within"):
                await connections.call(host, lambda c: c)
        async with asyncio.timeout(5):
            assert await connections.call(A1, lambda c: c) is known
            known.close()
            while True:
                with suppress(HypervisorUnreachable):
                    assert await connections.call(A1, lambda c: c) is not known
                    break


async def test_an_error_on_a_broken_connection_means_that_the_host_is_unreachable(
    connections: Connections,
) -> None:
    def breaks(connection: Connection) -> None:
        connection.close()
        raise libvirt.libvirtError("client socket is closed")

    with pytest.raises(HypervisorUnreachable, match="client socket is closed"):
        await connections.call(A1, breaks)  # type: ignore[arg-type]


async def test_a_call_that_takes_long_has_a_connection_of_its_own(
    connections: Connections, daemons: Daemons
) -> None:
    shared = await connections.call(A1, lambda c: c)
    apart = await connections.call_apart(A1, lambda c: c)
    assert apart is not shared
    assert (shared.isAlive(), apart.isAlive()) == (True, False)
    assert await connections.call(A1, lambda c: c) is shared
    assert daemons.opened == ["a1", "a1"]


SILENT = """
import asyncio, socket, sys
from transhume.deployment.model import Hypervisor
from transhume.errors import HypervisorUnreachable
from transhume.knowledge.model import HostName
from transhume.reach import libvirt as reach

reach.OPENING_SECONDS = 0.5
silent = socket.create_server(("127.0.0.1", 0))
uri = f"qemu+tcp://127.0.0.1:{silent.getsockname()[1]}/system"

async def ask():
    connections = reach.Connections([Hypervisor(host=HostName("a1"), uri=uri, peer_uri=uri)])
    try:
        await connections.call(HostName("a1"), lambda c: c.getLibVersion())
    except HypervisorUnreachable:
        print("it is silent")
    finally:
        connections.close()

asyncio.run(ask())
"""


def test_a_process_ends_though_a_host_lets_it_wait_for_ever() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SILENT], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "it is silent\n", "")


async def test_nobody_waits_long_for_a_connection_that_cant_be_closed(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "CLOSING_SECONDS", 0.1)
    let = threading.Event()
    known = await connections.call(A1, lambda c: c)
    monkeypatch.setattr(known, "close", let.wait)
    closing = threading.Thread(target=connections.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    let.set()
