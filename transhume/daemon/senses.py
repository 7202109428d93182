"""The senses of a daemon: tasks that write what they perceive into the knowledge, and never stop for long.

Owns which senses there are, and when each looks. What it perceives is its own module's affair (`monitor`), and
how it is kept alive that of `perseverance`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from transhume.daemon.perseverance import Trouble, persevere
from transhume.deployment.model import CapturePoint, Deployment
from transhume.errors import Error, HypervisorUnreachable, UnreadableProgress
from transhume.knowledge.model import CloudName, JobName, PriceTick, Warmth
from transhume.knowledge.store import Store
from transhume.monitor.applications import read_progress
from transhume.monitor.capture.live import LiveCapture
from transhume.monitor.clouds.inventory import LibvirtInventory, Namesakes
from transhume.monitor.clouds.prices import HttpPriceFeed, PriceSchedule, load_prices
from transhume.policies.book import PolicyBook

if TYPE_CHECKING:
    from transhume.execute.migration.control_client import GatewayClient
    from transhume.execute.migration.trust import Identity

log = structlog.get_logger()

Clock = Callable[[], datetime]

INVENTORY_SECONDS = 2.0
PROGRESS_SECONDS = 2.0
WARMTH_SECONDS = 10.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
TICK_SECONDS = 0.5
AHEAD = timedelta(days=7)
"""How far ahead certain prices are told of: longer than plans look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """A named perception without end: it yields each time something was perceived and written down."""

    name: str
    perceive: Callable[[Store], AsyncIterator[None]]


async def keep_alive(sense: Sense, store: Store) -> None:
    """Run a sense for ever; a fault is told once, tried again, and its end is told once."""
    await persevere(
        lambda: sense.perceive(store),
        Trouble("sense_failed", "sense_recovered", sense=sense.name),
        first_pause=FIRST_PAUSE_SECONDS,
        longest_pause=LONGEST_PAUSE_SECONDS,
    )


def inventory(source: LibvirtInventory, clock: Clock) -> Sense:
    """Read the hypervisors every few seconds."""

    async def perceive(store: Store) -> AsyncIterator[None]:
        silent: frozenset[str] = frozenset()
        namesakes: frozenset[Namesakes] = frozenset()
        while True:
            # Before, as a host that is silent keeps us waiting, and moves may end meanwhile.
            known = await store.last_inventory()
            read = await source.read(clock(), known)
            await store.put_inventory(
                read.vms, read.clusters, read.placement, read.capacity, known.arrivals
            )
            _tell_silence(silent, read.silent)
            silent = frozenset(error.host for error in read.silent)
            for each in set(read.namesakes) - namesakes:
                log.warning(
                    "vms_share_a_name", vm=each.name, taken=each.hosts[0], left_out=each.hosts[1:]
                )
            namesakes = frozenset(read.namesakes)
            yield
            await asyncio.sleep(INVENTORY_SECONDS)

    return Sense(name="inventory", perceive=perceive)


def _tell_silence(before: frozenset[str], now: Iterable[HypervisorUnreachable]) -> None:
    errors = {error.host: error for error in now}
    for host in errors.keys() - before:
        log.warning("host_silent", host=host, why=str(errors[host]))
    for host in before - errors.keys():
        log.info("host_answers_again", host=host)


def traffic(point: CapturePoint, window_seconds: float) -> Sense:
    """Capture at one host."""

    async def perceive(store: Store) -> AsyncIterator[None]:
        async for window in LiveCapture(point, window_seconds).windows():
            await store.add_window(window)
            yield

    return Sense(name=f"traffic at {point.host}", perceive=perceive)


def price_schedule(schedule: PriceSchedule, clock: Clock, *, certain: bool = False) -> Sense:
    """Follow a schedule on disk; its offsets count from now on, whatever comes between.

    Of each cloud the price in force is told, and none that was before. Where it is certain, what it says of the
    time ahead is told too.
    """
    start = clock()
    beginning = datetime.min.replace(tzinfo=start.tzinfo)
    looked, told = beginning, dict[CloudName, PriceTick]()

    async def perceive(store: Store) -> AsyncIterator[None]:
        nonlocal looked
        told_ahead: tuple[PriceTick, ...] | None = None
        while True:
            now = clock()
            since = looked if looked <= now else beginning  # the clock was set back
            in_force = {tick.cloud: tick for tick in schedule.ticks_between(start, since, now)}
            for cloud, tick in in_force.items():
                if told.get(cloud) != tick:
                    await store.put_price(tick)
                    told[cloud] = tick
            looked = now
            ahead = schedule.ticks_between(start, now, now + AHEAD) if certain else ()
            if ahead != told_ahead:
                await store.put_prices_ahead(ahead)
                told_ahead = ahead
            yield
            await asyncio.sleep(TICK_SECONDS)

    return Sense(name="prices", perceive=perceive)


def price_feed(feed: HttpPriceFeed, every_seconds: float, clock: Clock) -> Sense:
    """Ask a feed over HTTP now and then."""

    async def perceive(store: Store) -> AsyncIterator[None]:
        await store.put_prices_ahead(())  # what a schedule foretold, while there was one
        while True:
            for tick in await feed.fetch(clock()):
                await store.put_price(tick)
            yield
            await asyncio.sleep(every_seconds)

    return Sense(name="prices", perceive=perceive)


def progress_keys(book: PolicyBook, clock: Clock) -> Sense:
    """Read the keys in which applications keep their progress, those that policies in force name.

    A key that isn't there says nothing: its job may be told of by `transhume progress` instead.
    """
    lines: dict[JobName, str] = {}
    troubles: dict[JobName, Trouble] = {}

    async def look(store: Store, job: JobName) -> None:
        line = await store.line_of(job)
        if line is not None and line != lines.get(job):
            await store.put_progress(read_progress(job, line, clock()))
            lines[job] = line

    async def perceive(store: Store) -> AsyncIterator[None]:
        while True:
            for job in _jobs(book):
                trouble = troubles.setdefault(
                    job, Trouble("progress_unreadable", "progress_readable_again", key=job)
                )
                try:
                    await look(store, job)
                except UnreadableProgress as error:
                    trouble.tell(error)
                else:
                    trouble.over()
            yield
            await asyncio.sleep(PROGRESS_SECONDS)

    return Sense(name="progress", perceive=perceive)


def _jobs(book: PolicyBook) -> list[JobName]:
    goals = (policy.deadline for policy in book.policies)
    return [goal.progress_job for goal in goals if goal is not None and goal.progress_job]


def warmth(clients: "Mapping[CloudName, GatewayClient]", clock: Clock) -> Sense:
    """Ask the gateways how much of VMs is known elsewhere.

    What one knew that gives no answer counts no more: it may be gone, and its side of what both knew with it.
    """

    from transhume.execute.migration.control_client import warm_vms

    troubles = {
        cloud: Trouble("warmth_unknown", "warmth_known_again", cloud=cloud) for cloud in clients
    }

    async def ask(cloud: CloudName) -> list[Warmth]:
        try:
            found = await warm_vms(clients[cloud], clock())
        except Error as error:
            troubles[cloud].tell(error)
            return []
        troubles[cloud].over()
        return found

    async def perceive(store: Store) -> AsyncIterator[None]:
        is_told = True  # as whoever looked before has left it
        while True:
            now = [each for told in await asyncio.gather(*map(ask, clients)) for each in told]
            if now or is_told:
                await store.put_warmth(now)
            is_told = bool(now)
            yield
            await asyncio.sleep(WARMTH_SECONDS)

    return Sense(name="warmth", perceive=perceive)


def certificate(identity: "Identity") -> Sense:
    """Look each day at how long our operator's certificate is good for: gateways refuse us without."""

    from transhume.execute.migration.trust.ending import tell_of_end

    async def perceive(_store: Store) -> AsyncIterator[None]:
        yield
        await tell_of_end(identity)

    return Sense(name="certificate", perceive=perceive)


def left_behind(deployment: Deployment) -> Sense:
    """Forget, once, what senses have told that this deployment doesn't ask for any more: plans count on it."""

    async def perceive(store: Store) -> AsyncIterator[None]:
        if deployment.prices is None:
            await store.put_prices_ahead(())
        if not deployment.gateways:
            await store.put_warmth(())
        yield
        await asyncio.Event().wait()

    return Sense(name="what was left behind", perceive=perceive)


def senses_of(deployment: Deployment, source: LibvirtInventory, clock: Clock) -> list[Sense]:
    """Return the senses that a deployment file asks for."""
    senses = [left_behind(deployment), inventory(source, clock)]
    senses += [
        traffic(point, deployment.window_seconds)
        for point in deployment.capture
        if not point.remote
    ]
    prices = deployment.prices
    if prices is not None and prices.file is not None:
        schedule = load_prices(prices.file)
        senses.append(price_schedule(schedule, clock, certain=prices.certain))
    if prices is not None and prices.url is not None:
        senses.append(price_feed(HttpPriceFeed(prices.url), prices.every_seconds, clock))
    if deployment.gateways:
        from transhume.execute.migration.control_client import clients_of

        clients = clients_of(deployment)
        senses.append(warmth(clients, clock))
        identities = {each.identity for each in clients.values() if each.identity is not None}
        senses += map(certificate, identities)
    return senses
