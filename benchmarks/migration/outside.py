"""What a migration takes, seen from outside: bytes on the WAN, CPU time of processes, the moment of arrival.

Bytes are those that the shaper of a cloud's `wan0` has let pass: the device's own counter takes a
super-frame for one packet, and so misses the headers of all but the first (4 % here). QEMU's CPU time is
that of all threads that don't execute the guest.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from transhume.knowledge.model import HostName, VmName
from transhume.lab.lab import Lab
from transhume.lab.spec import UNDERLAY
from transhume.reach.libvirt import Connections
from transhume.reach.netns import NAMED

SAMPLE_SECONDS = 0.1
LINGER_SECONDS = 0.5
"""For events that are under way when a move's call returns."""
EXECUTES_THE_GUEST = "CPU "


def sent_bytes(netns: str) -> int:
    """Return how many bytes have left a cloud towards the others, headers included."""
    told = subprocess.run(
        ["nsenter", f"--net={NAMED / netns}", "tc", "-s", "-j", "qdisc", "show", "dev", UNDERLAY],
        check=True,
        capture_output=True,
    )
    return sum(int(each["bytes"]) for each in json.loads(told.stdout) if each["kind"] == "tbf")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, ended threads included; 0 where it is gone."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(words[11]) + int(words[12])) / _TICKS


@dataclass(slots=True)
class QemuTime:
    """The CPU time of QEMU's other threads, at both ends; sampled, as many of them end with the move."""

    lab: Lab
    vms: tuple[VmName, ...]
    _first: dict[tuple[int, int], int] = field(default_factory=dict)
    _last: dict[tuple[int, int], int] = field(default_factory=dict)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Sample for as long as the context lasts."""
        self._first = dict(self._threads())
        watching = asyncio.create_task(self._watch(), name="CPU time of QEMU")
        try:
            yield
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
            self._last.update(self._threads())

    @property
    def seconds(self) -> float:
        """What was used while watched; at most a sample less than it was."""
        return sum(ns - self._first.get(thread, 0) for thread, ns in self._last.items()) / 1e9

    async def _watch(self) -> None:
        while True:
            self._last.update(await asyncio.to_thread(lambda: dict(self._threads())))
            await asyncio.sleep(SAMPLE_SECONDS)

    def _threads(self) -> Iterator[tuple[tuple[int, int], int]]:
        for cloud in self.lab.spec.clouds:
            for vm in self.vms:
                with suppress(OSError, ValueError):
                    folder = self.lab.cloud(cloud.name).home / "libvirt/qemu"
                    yield from _thread_times(int((folder / f"{vm}.pid").read_text("ascii")))


def _thread_times(pid: int) -> Iterator[tuple[tuple[int, int], int]]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            if not (task / "comm").read_text("utf-8").startswith(EXECUTES_THE_GUEST):
                ns = int((task / "schedstat").read_text("ascii").split()[0])
                yield (pid, int(task.name)), ns


@dataclass(slots=True)
class Switches:
    """When guests stopped at one host and ran at another, by libvirt's events, on our monotonic clock.

    Over connections of its own: libvirt lets a connection have one listener of a kind.
    """

    stopped: dict[VmName, float] = field(default_factory=dict)
    running: dict[VmName, float] = field(default_factory=dict)

    @asynccontextmanager
    async def watched(
        self, connections: Connections, source: HostName, destination: HostName
    ) -> AsyncIterator[None]:
        """Listen for as long as the context lasts."""
        import libvirt

        leaving = partial(_listen, event=libvirt.VIR_DOMAIN_EVENT_SUSPENDED, times=self.stopped)
        coming = partial(_listen, event=libvirt.VIR_DOMAIN_EVENT_RESUMED, times=self.running)
        numbers = {
            source: await connections.call(source, leaving),
            destination: await connections.call(destination, coming),
        }
        try:
            yield
            await asyncio.sleep(LINGER_SECONDS)
        finally:
            for host, number in numbers.items():
                await connections.call(host, partial(_deafen, number=number))

    def last_arrival(self, vms: Iterable[VmName]) -> float | None:
        """Return when the last of them arrived; None where one didn't."""
        times = [self.running.get(vm) for vm in vms]
        return None if None in times else max(time for time in times if time is not None)

    def pauses(self, vms: Iterable[VmName]) -> tuple[float | None, ...]:
        """Return how long each of them stood still; None where an event didn't come."""
        return tuple(
            max(0.0, self.running[vm] - self.stopped[vm])
            if vm in self.running and vm in self.stopped
            else None
            for vm in vms
        )


def _listen(connection: Any, event: int, times: dict[VmName, float]) -> int:
    import libvirt

    def heard(_connection: Any, domain: Any, seen: int, _detail: int, _: object) -> None:
        if seen == event:
            times[VmName(domain.name())] = time.monotonic()

    kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    number: int = connection.domainEventRegisterAny(None, kind, heard, None)
    return number


def _deafen(connection: Any, number: int) -> None:
    connection.domainEventDeregisterAny(number)


_TICKS = 100
"""Of the kernel's clock for processes, a second."""
