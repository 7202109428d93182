"""Runs a site's agent: hears the register, the hypervisors and the bridge, and carries out what its state says.

One at a time for a site: a second one waits until the first is gone.

Leaves the kernel as it is when it ends. Frames go on without it, and the next agent mends what has changed.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import structlog

from transhume.errors import KnowledgeUnreachable, LeaseHeld, LeaseLost, OverlayError
from transhume.execute.overlay.agent.events import (
    Acknowledge,
    Applied,
    Apply,
    Arriving,
    Began,
    Event,
    Expect,
    Hold,
    Instruction,
    Leaving,
    Look,
    Looked,
    Offer,
    Read,
    Retire,
    Runs,
    SendOn,
    Ticked,
    Told,
)
from transhume.execute.overlay.agent.offers import Offers
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.routes import Route
from transhume.knowledge.lease import Lease
from transhume.knowledge.model import AgentStatus, Binding, HandOver, Interface, MacAddress, VmName
from transhume.knowledge.register import Entry, HandOvers, Lost, Register, Whole

TICK_SECONDS = 0.25
AUDIT_SECONDS = 3.0
STATUS_SECONDS = 1.0
LEASE_SECONDS = 5.0
_MOST_FAULTS = 10
_AT_ONCE = 64

log = structlog.get_logger()


class Plane(Protocol):
    """A site's kernel. Blocking; for one thread at a time, but for `expect`."""

    def set_up(self) -> None:
        """Make devices and rules where they aren't as they should be."""
        ...

    def apply(self, routes: Iterable[Route]) -> None:
        """Carry routes out in one batch."""
        ...

    def expect(self, devices: Mapping[MacAddress, str]) -> None:
        """Give what comes by a detour for these addresses to these devices, for no others. In any thread."""
        ...

    def actual(self) -> dict[MacAddress, Route]:
        """Return what there is."""
        ...

    def mending(self, wanted: Iterable[Route]) -> tuple[Route, ...]:
        """Return what to apply so that it does what is wanted, and nothing else."""
        ...

    def faults(self) -> tuple[str, ...]:
        """Say what of devices and rules isn't as `set_up` makes it, a line each."""
        ...


class Salvage(Protocol):
    """The taps of a site's VMs. Nothing of it blocks, or fails."""

    def hold(self, devices: Mapping[MacAddress, str]) -> None:
        """Have these at hand soon, by their VMs' addresses; let go of all others."""
        ...

    def send_on(self, macs: Iterable[MacAddress]) -> None:
        """Send on what waits in those of VMs that have stopped, and let go of them."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


Sense = Callable[[Callable[[Event], None]], Coroutine[Any, Any, None]]
Looking = Callable[[MacAddress], Coroutine[Any, Any, Interface | None]]


async def _nothing() -> None:
    """Have nothing to prepare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Senses:
    """What an agent perceives with."""

    prepare: Callable[[], Coroutine[Any, Any, None]] = _nothing
    """Done once nobody else looks after the site, before its kernel is set up."""
    run: Sequence[Sense] = ()
    """Each is run as long as the agent, and given what takes its events."""
    look: Looking | None = None
    """Asks this site's hypervisors; None where none can be asked, and what is seen is believed."""
    fixed: tuple[Interface, ...] = ()
    """Addresses that are here and never move."""
    paths: Callable[[], tuple[str, ...]] = tuple
    """Says how other sites are reached."""
    faults: Callable[[], tuple[str, ...]] = tuple
    """Says what is wrong at this site beside the addresses."""
    anchored: Callable[[], int] = int
    """Says how many connections to the outside stay here though their VM doesn't."""


@dataclass(slots=True)
class _Progress:
    applied: int = 0
    repairs: int = 0
    faults: tuple[str, ...] = ()
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Agent:
    """One site's agent for one virtual network.

    Args:
        addresses: the site's state.
        planes: its kernel, to work on, and once more to look at meanwhile.
        register: the network's.
        lease: the claim to be this site's only agent.
        senses: what it perceives with.
        clock: the time as others know it.
        salvage: its VMs' taps; None leaves in them what is there.
        terms: what its deployment file has in common with the other sites'.
    """

    def __init__(
        self,
        *,
        addresses: SiteAddresses,
        planes: tuple[Plane, Plane],
        register: Register,
        lease: Lease,
        senses: Senses,
        clock: Callable[[], datetime],
        salvage: Salvage | None = None,
        terms: str = "",
    ) -> None:
        self._addresses = addresses
        self._plane, self._second = planes
        self._register, self._lease = register, lease
        self._senses = senses
        self._clock = clock
        self._salvage = salvage
        self._terms = terms
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._read = asyncio.Event()
        self._hand_overs: tuple[HandOver, ...] = ()
        self._deaf_since: datetime | None = None
        """Since when the knowledge can't be reached: nothing that was announced till then could be renewed."""
        self._offers = Offers()
        self._expected: Mapping[MacAddress, str] = {}
        self._progress = _Progress()
        self._at_work = 0
        """What the thread has still to do with the kernel."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plane")
        self._rules_thread = ThreadPoolExecutor(1, thread_name_prefix="rules")
        """Packet rules wait for whoever else changes or lists some at the host; VMs' stops don't."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Look after the site until cancelled.

        Raises:
            OverlayError: the kernel can't be set up.
            LeaseLost: another agent of this site has taken over.
        """
        await self._take_over()
        try:
            await self._senses.prepare()
            await self._in_thread(self._plane.set_up)
            await self._handle(Began(routes=await self._in_thread(self._plane.actual)))
            log.info("agent_began", site=self._addresses.site, vni=self._register.vni)
            async with asyncio.TaskGroup() as tasks:
                for sense in self._senses.run:
                    tasks.create_task(self._perceive(sense))
                for duty in (
                    self._work,
                    self._follow,
                    self._offer,
                    self._tick,
                    self._audit,
                    self._report,
                ):
                    tasks.create_task(duty(), name=f"{self._addresses.site}: {duty.__name__}")
                tasks.create_task(_hold(self._lease), name=f"{self._addresses.site}: lease")
        except* LeaseLost as lost:
            raise lost.exceptions[0] from None
        finally:
            if self._salvage is not None:
                self._salvage.close()
            for thread in (self._thread, self._rules_thread):
                thread.shutdown(wait=False)
            await _released(self._lease)

    async def _perceive(self, sense: Sense) -> None:
        """Begin when the register was read: what is seen means nothing before."""
        await self._read.wait()
        await sense(self._events.put_nowait)

    async def _take_over(self) -> None:
        """Wait until no other agent looks after this site."""
        waiting = False
        while True:
            try:
                await self._lease.acquire()
                return
            except (LeaseHeld, KnowledgeUnreachable) as error:
                if not waiting:
                    log.info("agent_waits", site=self._addresses.site, why=str(error))
                waiting = True
            await asyncio.sleep(LEASE_SECONDS / 5)

    # --- events --------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            await self._handle(await self._events.get())

    async def _handle(self, event: Event) -> None:
        for instruction in self._addresses.handle(event, time.monotonic()):
            await self._carry_out(instruction)

    async def _carry_out(self, instruction: Instruction) -> None:
        match instruction:
            case Apply(routes=routes):
                await self._apply(routes)
            case Offer(bindings=bindings):
                self._offers.add(bindings)
            case Retire(bindings=bindings):
                self._keep(asyncio.create_task(self._retire(bindings)))
            case Acknowledge(revision=revision):
                self._progress.applied = revision
                self._progress.news.set()
            case Look(mac=mac, device=device):
                self._keep(asyncio.create_task(self._look(mac, device)))
            case Hold(devices=devices) if self._salvage is not None:
                self._salvage.hold(devices)
            case SendOn(macs=macs) if self._salvage is not None:
                self._salvage.send_on(macs)
            case Expect(devices=devices):
                self._keep(asyncio.create_task(self._expect(devices)))

    async def _apply(self, routes: tuple[Route, ...]) -> None:
        """Tell the kernel. A few routes at once and from here: a thread would begin a millisecond later."""
        try:
            if len(routes) <= _AT_ONCE and self._at_work == 0:
                self._plane.apply(routes)
            else:
                await self._in_thread(lambda: self._plane.apply(routes))
        except OverlayError as error:  # it's mended at the next look
            self._progress.faults = (str(error),)
            log.warning("routes_refused", site=self._addresses.site, why=str(error))
            if self._salvage is not None:  # what isn't sent on is better left where it is
                self._salvage.hold({})

    async def _expect(self, devices: Mapping[MacAddress, str]) -> None:
        self._expected = devices
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._rules_thread, self._plane.expect, devices
            )
        except OverlayError as error:  # what comes too early is lost then
            log.warning("arrival_not_prepared", site=self._addresses.site, why=str(error))

    async def _in_thread(self, what: Callable[[], Any]) -> Any:
        self._at_work += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, what)
        finally:
            self._at_work -= 1

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look(self, mac: MacAddress, device: str | None) -> None:
        if self._senses.look is not None:
            found = await self._senses.look(mac)
        else:
            found = Interface(mac=mac, device=device) if device else None
        self._events.put_nowait(Looked(mac=mac, interface=found))

    # --- the knowledge -------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for news in self._register.follow():
            match news:
                case Whole():
                    self._events.put_nowait(Read(whole=news))
                    self._read.set()
                    if self._senses.fixed:
                        fixed = Runs(vm=VmName(""), interfaces=self._senses.fixed)
                        self._events.put_nowait(fixed)
                case Entry():
                    self._events.put_nowait(Told(entry=news))
                case HandOvers():
                    self._hand_overs, self._deaf_since = news.hand_overs, None
                    self._announced()
                case Lost():
                    self._deaf_since = self._deaf_since or self._clock()

    def _announced(self) -> None:
        """Take in which moves are announced now."""
        now, site = self._deaf_since or self._clock(), self._addresses.site
        hold = [each for each in self._hand_overs if each.until > now]
        leaving = {mac: e.destination for e in hold if e.source == site for mac in e.macs}
        arriving = frozenset(mac for e in hold if e.destination == site for mac in e.macs)
        self._events.put_nowait(Leaving(destination_of=leaving))
        self._events.put_nowait(Arriving(macs=arriving))

    async def _offer(self) -> None:
        while True:
            offered = await self._offers.take()
            try:
                await self._register.put(offered)
            except KnowledgeUnreachable as error:  # it's offered again
                log.warning("offer_put_off", site=self._addresses.site, why=str(error))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self._hand_overs:  # which end by themselves
                self._announced()
            self._events.put_nowait(Ticked())
            if self._addresses.book.detours:
                try:
                    self._events.put_nowait(await self._applied_by_others())
                except KnowledgeUnreachable:
                    continue

    async def _retire(self, bindings: tuple[Binding, ...]) -> None:
        with suppress(KnowledgeUnreachable):  # it's tried again
            await self._register.retire(bindings)

    async def _applied_by_others(self) -> Applied:
        """Return up to where all have followed; a site whose agent is silent goes by its old entries."""
        statuses = await self._register.statuses()
        others = [site for site in self._addresses.sites if site != self._addresses.site]
        applied = [statuses[site].applied if site in statuses else 0 for site in others]
        heard = [s for site in others if (s := statuses.get(site)) and not self._is_silent(s)]
        own = self._progress.applied
        return Applied(
            revision=min(applied, default=own),
            by_heard=min((each.applied for each in heard), default=own),
        )

    def _is_silent(self, status: AgentStatus) -> bool:
        return (self._clock() - status.at).total_seconds() >= self._addresses.timing.silent_seconds

    async def _report(self) -> None:
        while True:
            with suppress(KnowledgeUnreachable):
                await self._register.report(self._status())
            self._progress.news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(STATUS_SECONDS):
                    await self._progress.news.wait()

    def _status(self) -> AgentStatus:
        addresses = self._addresses
        bound = addresses.book.bound
        here = sum(binding.site == addresses.site for binding in bound)
        return AgentStatus(
            site=addresses.site,
            vni=self._register.vni,
            at=self._clock(),
            holder=self._lease.holder,
            applied=self._progress.applied,
            here=here,
            away=len(bound) - here,
            detours=tuple(sorted(addresses.book.detours)),
            damped=addresses.damped(time.monotonic()),
            faults=(*self._progress.faults, *self._senses.faults()),
            repairs=self._progress.repairs,
            paths=self._senses.paths(),
            anchored=self._senses.anchored(),
            terms=self._terms,
        )

    # --- repair --------------------------------------------------------------------------------------

    async def _audit(self) -> None:
        """Compare the kernel with what is wanted, and mend it; changes of meanwhile wait for the next time."""
        took = 0.0
        while True:
            # With very many addresses it takes a while: then it's done more seldom.
            await asyncio.sleep(max(AUDIT_SECONDS, 30 * took))
            began = time.monotonic()
            try:
                await self._mend()
            except (OSError, OverlayError) as error:
                self._progress.faults = (str(error),)
                log.warning("overlay_not_mended", site=self._addresses.site, why=str(error))
                await self._set_up_again()
            took = time.monotonic() - began

    async def _mend(self) -> None:
        broken = await asyncio.to_thread(self._second.faults)
        if broken:
            self._progress.repairs += len(broken)
            log.warning("overlay_set_up_again", site=self._addresses.site, faults=broken)
            await self._in_thread(self._plane.set_up)
            await self._expect(self._expected)
        wrong = await self._wrong() if self._read.is_set() else ()
        told = (*broken, *(f"{route.mac} was wrong" for route in wrong))
        self._progress.faults = told[:_MOST_FAULTS]
        if wrong:
            self._progress.repairs += len(wrong)
            log.warning("overlay_mended", site=self._addresses.site, addresses=len(wrong))
            await self._in_thread(lambda: self._plane.apply(wrong))

    async def _wrong(self) -> tuple[Route, ...]:
        """Return what mends the addresses; before the register was read it would remove all of them."""
        before = self._addresses.wanted()
        found = await asyncio.to_thread(self._second.mending, before.values())
        now = self._addresses.wanted()
        # What has changed while the kernel was read is neither right nor wrong.
        return tuple(route for route in found if before.get(route.mac) == now.get(route.mac))

    async def _set_up_again(self) -> None:
        try:
            await self._in_thread(self._plane.set_up)
            wanted = self._addresses.wanted().values()
            await self._in_thread(lambda: self._plane.apply(wanted))
            await self._expect(self._expected)
        except (OSError, OverlayError) as error:
            log.warning("overlay_not_set_up", site=self._addresses.site, why=str(error))


async def _hold(lease: Lease) -> None:
    while True:
        await asyncio.sleep(LEASE_SECONDS / 3)
        # While it can't be reached nobody else can take over, and the kernel's entries hold.
        with suppress(KnowledgeUnreachable):
            await _keep(lease)


async def _keep(lease: Lease) -> None:
    """Renew a claim. A knowledge that came back without its memory knows of none: then it's made again.

    That is safe here, unlike for who decides: the claim only keeps two agents from looking after one site, who
    would do the same to its kernel, and no write depends on it.

    Raises:
        LeaseLost: another agent has it.
    """
    try:
        await lease.renew()
    except LeaseLost as lost:
        try:
            await lease.acquire()
        except LeaseHeld:
            raise lost from None
        log.warning("agent_claims_again", holder=lease.holder)


async def _released(lease: Lease) -> None:
    with suppress(KnowledgeUnreachable):
        await lease.release()


__all__ = ["Agent", "Plane", "Salvage", "Senses"]
