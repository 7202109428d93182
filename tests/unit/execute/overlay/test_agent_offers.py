"""An agent whose register or kernel takes its time: real ones can't be made to hang just where it matters."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from transhume.execute.overlay.agent.events import (
    Arriving,
    Awaited,
    Event,
    Leaving,
    Runs,
    Stopped,
    Told,
)
from transhume.execute.overlay.agent.service import Agent, Plane, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.routes import Route
from transhume.knowledge.lease import Lease
from transhume.knowledge.model import Binding, Interface, IpAddress, MacAddress, SiteName, VmName
from transhume.knowledge.register import Entry, News, Register, Whole

A, B = SiteName("a"), SiteName("b")
VTEPS = {A: IpAddress("192.0.2.1"), B: IpAddress("192.0.2.2")}
VM, OTHER = (Interface(mac=MacAddress(f"52:54:00:00:00:0{n}")) for n in (1, 2))


class SlowRegister:
    """Answers an offer only when it's told to."""

    vni = 66

    def __init__(self) -> None:
        self.offered: asyncio.Queue[tuple[Binding, ...]] = asyncio.Queue()
        self.answers = asyncio.Event()

    async def follow(self) -> AsyncIterator[News]:
        yield Whole(revision=0, entries=())
        await asyncio.Event().wait()

    async def put(self, bindings: Iterable[Binding]) -> None:
        self.offered.put_nowait(tuple(bindings))
        await self.answers.wait()

    async def statuses(self) -> dict[SiteName, object]:
        return {}

    async def report(self, _status: object) -> None:
        return


class Kernel:
    def set_up(self) -> None: ...

    def apply(self, routes: Iterable[Route]) -> None: ...

    def actual(self) -> dict[MacAddress, Route]:
        return {}

    def expect(self, devices: object) -> None: ...

    def mending(self, wanted: object) -> tuple[Route, ...]:
        return ()

    def faults(self) -> tuple[str, ...]:
        return ()


class Claim:
    holder = "test"

    async def acquire(self) -> None: ...

    async def renew(self) -> None: ...

    async def release(self) -> None: ...


class BusyKernel(Kernel):
    """One in which somebody else changes many packet rules, or lists them."""

    def __init__(self) -> None:
        self.asked, self.may_go_on = threading.Event(), threading.Event()
        self.applied: list[Route] = []

    def apply(self, routes: Iterable[Route]) -> None:
        self.applied += routes

    def expect(self, devices: object) -> None:
        if devices:
            self.asked.set()
            self.may_go_on.wait(20)


async def test_the_stop_of_a_vm_does_not_wait_for_the_rules_of_another() -> None:
    """What comes for it is lost until the kernel knows."""
    kernel, told = BusyKernel(), asyncio.Queue[Callable[[Event], None]]()

    async def sense(tell: Callable[[Event], None]) -> None:
        told.put_nowait(tell)
        await asyncio.Event().wait()

    plane, coming = cast("Plane", kernel), replace(OTHER, device="vnet1")
    addresses = SiteAddresses(A, 66, VTEPS)
    agent = Agent(
        addresses=addresses,
        planes=(plane, plane),
        register=cast("Register", SlowRegister()),
        lease=cast("Lease", Claim()),
        senses=Senses(run=(sense,)),
        clock=lambda: datetime.now(UTC),
    )
    running = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(10):
            tell = await told.get()
            elsewhere = Binding(vni=66, mac=OTHER.mac, site=B, sequence=1)
            tell(Told(entry=Entry(binding=elsewhere, revision=1)))
            tell(Runs(vm=VmName("vm"), interfaces=(VM,)))
            tell(Leaving(destination_of={VM.mac: B}))
            tell(Arriving(macs=frozenset({OTHER.mac})))
            tell(Awaited(vm=VmName("other"), interfaces=(coming,)))
            await asyncio.to_thread(kernel.asked.wait, 10)
            tell(Stopped(vm=VmName("vm"), interfaces=(VM,)))
            while Route(mac=VM.mac, vtep=VTEPS[B], detour=True) not in kernel.applied:
                await asyncio.sleep(0.01)
    finally:
        kernel.may_go_on.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_came_up_while_the_register_hung_is_told_at_once_and_once() -> None:
    register, addresses = SlowRegister(), SiteAddresses(A, 66, VTEPS)
    told: asyncio.Queue[Callable[[Event], None]] = asyncio.Queue()

    async def sense(tell: Callable[[Event], None]) -> None:
        told.put_nowait(tell)
        await asyncio.Event().wait()

    plane = cast("Plane", Kernel())
    agent = Agent(
        addresses=addresses,
        planes=(plane, plane),
        register=cast("Register", register),
        lease=cast("Lease", Claim()),
        senses=Senses(run=(sense,)),
        clock=lambda: datetime.now(UTC),
    )
    running = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(30):
            tell = await told.get()
            tell(Runs(vm=VmName("vm"), interfaces=(VM,)))
            assert [each.sequence for each in await register.offered.get()] == [1]
            tell(Leaving(destination_of={VM.mac: B}))
            tell(Stopped(vm=VmName("vm"), interfaces=(VM,)))
            tell(Runs(vm=VmName("vm"), interfaces=(VM,)))
            tell(Runs(vm=VmName("other"), interfaces=(OTHER,)))
            while OTHER.mac not in addresses.book.known:
                await asyncio.sleep(0)

            register.answers.set()

            found = {each.mac: each for each in await register.offered.get()}
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert found == {mac: addresses.book.known[mac] for mac in (VM.mac, OTHER.mac)}
    assert (found[VM.mac].site, found[VM.mac].sequence) == (A, 3)
