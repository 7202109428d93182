"""A sense is kept alive through faults; one that never worked, and a lost lease, end the daemon."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from transhume.daemon import senses
from transhume.daemon.senses import (
    Sense,
    keep_alive,
    left_behind,
    price_feed,
    price_schedule,
    senses_of,
)
from transhume.deployment.model import Deployment, PriceFeed
from transhume.errors import LeaseLost, TemporaryError, UsageError
from transhume.knowledge.model import CloudName, PriceTick
from transhume.knowledge.store import Store
from transhume.monitor.clouds.inventory import LibvirtInventory
from transhume.monitor.clouds.prices import HttpPriceFeed, load_prices

STORE = cast("Store", None)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senses, "FIRST_PAUSE_SECONDS", 0.0)


def told(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs]


async def test_a_fault_is_told_once_and_its_end_once() -> None:
    attempts = 0

    async def perceive(_store: Store) -> AsyncIterator[None]:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise TemporaryError("no answer")
        yield
        raise LeaseLost(1)

    with capture_logs() as logs, pytest.raises(LeaseLost):
        await keep_alive(Sense(name="prices", perceive=perceive), STORE)
    assert told(logs) == ["sense_failed", "sense_recovered"]
    assert attempts == 4


async def test_a_fault_that_nobody_foresaw_is_outlived_and_told_with_its_traceback() -> None:
    attempts = 0

    async def perceive(_store: Store) -> AsyncIterator[None]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ZeroDivisionError
        yield
        raise LeaseLost(1)

    with capture_logs() as logs, pytest.raises(LeaseLost):
        await keep_alive(Sense(name="prices", perceive=perceive), STORE)
    assert told(logs) == ["sense_failed", "sense_recovered"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_a_cancelled_sense_closes_what_it_opened() -> None:
    closed = asyncio.Event()
    began = asyncio.Event()

    async def perceive(_store: Store) -> AsyncIterator[None]:
        try:
            began.set()
            await asyncio.Event().wait()
            yield
        finally:
            closed.set()

    task = asyncio.create_task(keep_alive(Sense(name="traffic", perceive=perceive), STORE))
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert closed.is_set()


async def test_a_mistake_that_keeps_a_sense_from_ever_working_ends_the_daemon() -> None:
    async def perceive(_store: Store) -> AsyncIterator[None]:
        raise UsageError("there is no network namespace cloud-a")
        yield

    with pytest.raises(UsageError):
        await keep_alive(Sense(name="traffic", perceive=perceive), STORE)


async def test_a_cloud_that_vanishes_later_is_outlived() -> None:
    attempts = 0

    async def perceive(_store: Store) -> AsyncIterator[None]:
        nonlocal attempts
        attempts += 1
        if attempts == 3:
            raise LeaseLost(1)
        yield
        raise UsageError("there is no network namespace cloud-a")

    with capture_logs() as logs, pytest.raises(LeaseLost):
        await keep_alive(Sense(name="traffic", perceive=perceive), STORE)
    assert told(logs) == ["sense_failed", "sense_recovered", "sense_failed"]


class Till:
    """A store that keeps the prices, and can't be reached once."""

    def __init__(self, fails_at: int) -> None:
        self.kept: list[PriceTick] = []
        self.ahead: tuple[PriceTick, ...] = ()
        self._fails_in = fails_at

    async def put_price(self, tick: PriceTick) -> None:
        self._fails_in -= 1
        if not self._fails_in:
            raise TemporaryError("no answer")
        self.kept.append(tick)

    async def put_prices_ahead(self, ticks: Iterable[PriceTick]) -> None:
        self.ahead = tuple(ticks)


async def test_a_schedule_goes_on_after_a_fault_and_does_not_begin_again(tmp_path: Path) -> None:
    """A price that has risen would otherwise fall back, and rise again later: VMs would follow it."""
    file = tmp_path / "prices.csv"
    file.write_text("cloud,at,vcpu\na,0s,0.1/h\na,60s,0.9/h\n")
    time = datetime(2026, 1, 1, tzinfo=UTC)
    till = Till(fails_at=2)
    sense = price_schedule(load_prices(file), lambda: time)
    first = sense.perceive(cast("Store", till))
    await anext(first)
    time += timedelta(seconds=61)
    with pytest.raises(TemporaryError):
        await anext(sense.perceive(cast("Store", till)))
    await anext(sense.perceive(cast("Store", till)))
    asked = [(tick.cloud, tick.dollars_per_vcpu_hour) for tick in till.kept]
    assert asked == [(CloudName("a"), 0.1), (CloudName("a"), 0.9)]


async def test_of_a_schedule_that_began_long_ago_only_prices_in_force_are_told(
    tmp_path: Path,
) -> None:
    """A round between two of the others would move VMs by what was asked a year ago."""
    file = tmp_path / "prices.csv"
    file.write_text(
        "cloud,at,vcpu\na,2025-01-01T00:00Z,0.01/h\na,2025-06-01T00:00Z,0.1/h\nb,0s,0.2/h\n"
    )
    till = Till(fails_at=0)
    sense = price_schedule(load_prices(file), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    await anext(sense.perceive(cast("Store", till)))
    assert [tick.dollars_per_vcpu_hour for tick in till.kept] == [0.1, 0.2]


async def test_a_schedule_goes_back_with_the_clock(tmp_path: Path) -> None:
    """What was asked for while the clock was ahead would be in force until the next price begins."""
    file = tmp_path / "prices.csv"
    file.write_text("cloud,at,vcpu\na,0s,0.1/h\na,2h,0.9/h\nb,0s,0.2/h\n")
    time = datetime(2026, 1, 1, tzinfo=UTC)
    till = Till(fails_at=0)
    looks = price_schedule(load_prices(file), lambda: time).perceive(cast("Store", till))
    await anext(looks)
    for hours in (3, -3):
        time += timedelta(hours=hours, seconds=1)
        await anext(looks)
    asked = [(tick.cloud, tick.dollars_per_vcpu_hour) for tick in till.kept]
    assert asked == [("a", 0.1), ("b", 0.2), ("a", 0.9), ("a", 0.1)]


@pytest.mark.parametrize("certain", [True, False])
async def test_only_prices_that_are_certain_are_told_ahead(tmp_path: Path, certain: bool) -> None:
    file = tmp_path / "prices.csv"
    file.write_text("cloud,at,vcpu\na,0s,0.1/h\na,60s,0.9/h\na,9d,0.2/h\n")
    time = datetime(2026, 1, 1, tzinfo=UTC)
    till = Till(fails_at=0)
    looks = price_schedule(load_prices(file), lambda: time, certain=certain).perceive(
        cast("Store", till)
    )
    await anext(looks)
    assert [tick.dollars_per_vcpu_hour for tick in till.ahead] == ([0.9] if certain else [])
    time += timedelta(seconds=61)
    await anext(looks)
    assert till.ahead == ()
    time += timedelta(days=5)
    await anext(looks)
    assert [tick.dollars_per_vcpu_hour for tick in till.ahead] == ([0.2] if certain else [])


class Feed:
    """A server that tells nothing."""

    async def fetch(self, _now: datetime) -> tuple[PriceTick, ...]:
        return ()


async def test_a_feed_takes_the_place_of_a_schedule_that_told_prices_ahead(tmp_path: Path) -> None:
    """Plans would count on the tariff of before for up to a week."""
    file = tmp_path / "prices.csv"
    file.write_text("cloud,at,vcpu\na,0s,0.1/h\na,60s,0.9/h\n")
    time = datetime(2026, 1, 1, tzinfo=UTC)
    till = Till(fails_at=0)
    await anext(
        price_schedule(load_prices(file), lambda: time, certain=True).perceive(cast("Store", till))
    )
    feed = price_feed(cast("HttpPriceFeed", Feed()), 30.0, lambda: time)
    await anext(feed.perceive(cast("Store", till)))
    assert till.ahead == ()


class Attic:
    """A store with what a daemon of before has told."""

    def __init__(self) -> None:
        self.ahead: Sequence[object] = ("a price to come",)
        self.warmth: Sequence[object] = ("a warm VM",)

    async def put_prices_ahead(self, ticks: Sequence[object]) -> None:
        self.ahead = ticks

    async def put_warmth(self, warmth: Sequence[object]) -> None:
        self.warmth = warmth


async def test_what_nobody_asks_for_any_more_is_forgotten_when_a_daemon_begins() -> None:
    """Else plans count on a tariff that has been taken out, and take moves for free that gateways carried."""
    bare = Deployment(source="t", clouds=(), hosts=(), hypervisors=())
    source = cast("LibvirtInventory", None)
    attic = Attic()
    for sense in senses_of(bare, source, lambda: datetime(2026, 1, 1, tzinfo=UTC)):
        if sense.name != "inventory":
            await anext(sense.perceive(cast("Store", attic)))
    assert (attic.ahead, attic.warmth) == ((), ())


async def test_what_is_still_asked_for_is_left_to_its_own_sense() -> None:
    asking = Deployment(
        source="t",
        clouds=(),
        hosts=(),
        hypervisors=(),
        prices=PriceFeed(url="http://localhost:1/"),
    )
    attic = Attic()
    await anext(left_behind(asking).perceive(cast("Store", attic)))
    assert (attic.ahead, attic.warmth) == (("a price to come",), ())
