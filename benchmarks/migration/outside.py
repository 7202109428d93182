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
from pathlib import Path
from typing import Any

from transhume.knowledge.model import HostName, VmName
from transhume.lab.lab import Lab
from transhume.lab.spec import UNDERLAY
from transhume.reach.libvirt import Connections
from transhume.reach.netns import NAMED

SAMPLE_SECONDS = 0.1
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
class Arrivals:
    """When guests began to run at a host, by libvirt's events."""

    at: dict[VmName, float] = field(default_factory=dict)
    """On this process's monotonic clock."""

    @asynccontextmanager
    async def watched(self, connections: Connections, host: HostName) -> AsyncIterator[None]:
        """Listen for as long as the context lasts."""
        number = await connections.call(host, self._listen)
        try:
            yield
        finally:
            await connections.call(host, lambda c: c.domainEventDeregisterAny(number))

    def _listen(self, connection: Any) -> int:
        import libvirt

        kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        number: int = connection.domainEventRegisterAny(None, kind, self._heard, None)
        return number

    def _heard(self, _connection: Any, domain: Any, event: int, _detail: int, _: object) -> None:
        import libvirt

        if event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
            self.at[VmName(domain.name())] = time.monotonic()

    def last(self, vms: Iterable[VmName]) -> float | None:
        """Return when the last of them arrived; None where one didn't."""
        times = [self.at.get(vm) for vm in vms]
        return None if None in times else max(time for time in times if time is not None)


_TICKS = 100
"""Of the kernel's clock for processes, a second."""
