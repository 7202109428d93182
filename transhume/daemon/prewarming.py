"""Pre-warming: while a plan waits for somebody's word, its VMs' memory goes ahead to where they may go.

Owns which VMs are kept warm where, and since when not any more; how is the gateways' affair. Disks that would
be copied go along. Each VM has a budget of bytes, and a plan one of money: whenever its VMs or their prices are
others, what is left of that is shared out again, so that a VM that was warm before goes on with what it has
spent. A gateway that doesn't answer, or refuses, costs a line in the log and nothing else. What it couldn't
begin, or what broke off with a link, is begun again after a while.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from transhume.daemon.prewarming_shares import Claim, Spent, Way, share_out
from transhume.deployment.model import PrewarmBudget
from transhume.errors import Error
from transhume.execute.migration.gateways import Gateways
from transhume.knowledge.model import EgressTariff, Plan, PlanStatus, Snapshot, Vm
from transhume.knowledge.store import Store

LOOK_SECONDS = 3.0
WAITING = (PlanStatus.RECOMMENDED, PlanStatus.AWAITING_APPROVAL)
PLANS_LOOKED_AT = 5
LOOKS_UNTIL_AGAIN, MOST_LOOKS_UNTIL_AGAIN = 10, 160
"""After so many looks, what isn't kept warm though it should be is begun again; after a try in vain, twice as
many later."""
FREE = 0.0

Prices = dict[Way, float | None]
"""Dollars for 10^9 bytes on each way, as far as they count; None: nobody tells it."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Grant:
    """What a gateway was told that it may send for a VM."""

    most_bytes: int
    dollars_per_gb: float | None
    disks: bool = False
    """Whether its own disks are to go along."""
    asked: bool = False
    """Whether it was told so: nobody is asked to send nothing."""
    failed: bool = False
    """Whether that came to nothing."""


class Prewarming:
    """Keeps VMs of plans that wait warm; `keep` does it, for ever.

    Args:
        gateways: those of the federation.
        budget: what may be sent.
        copies_disks: says whether a VM's own disks would move with it.
    """

    def __init__(
        self,
        gateways: Gateways,
        budget: PrewarmBudget,
        copies_disks: Callable[[Vm], bool] = lambda _vm: False,
    ) -> None:
        self._gateways = gateways
        self._budget = budget
        self._copies_disks = copies_disks
        self._grants: dict[Way, _Grant] = {}
        self._spent: dict[Way, Spent] = {}
        self._prices: Prices = {}
        self._looks_until_again = self._pause = LOOKS_UNTIL_AGAIN
        self._told: dict[Way, str] = {}
        """Why it couldn't be begun, as was said last."""
        self._looks_for_others = True
        """Whether a daemon that is gone may have had VMs kept warm, which gateways go on with."""

    async def keep(self, store: Store) -> AsyncIterator[None]:
        """Look at the plans that wait, again and again."""
        while True:
            plans = await store.plans(limit=PLANS_LOOKED_AT)
            # While a plan is carried out, nothing changes.
            if not any(stored.status is PlanStatus.EXECUTING for stored in plans):
                latest = next((stored for stored in plans if stored.status in WAITING), None)
                plan = latest.plan if latest else None
                await self._follow(self._ways(plan) if isinstance(plan, Plan) else set(), store)
            yield
            await asyncio.sleep(LOOK_SECONDS)

    def _ways(self, plan: Plan) -> set[Way]:
        """Return each VM's first way between clouds with gateways: it isn't where others begin."""
        known = self._gateways.clients
        first: dict[str, Way] = {}
        for step in plan.steps:
            ends = step.source_cloud, step.destination_cloud
            if ends[0] != ends[1] and all(cloud in known for cloud in ends):
                first.setdefault(step.vm, Way(step.vm, *ends))
        return set(first.values())

    async def _follow(self, wanted: set[Way], store: Store) -> None:
        """Have just these VMs kept warm, each with its share of the budget."""
        for way in self._grants.keys() - wanted:
            await self._end(way)
            del self._spent[way]
            self._told.pop(way, None)
        await self._try_again()
        counts_money = self._budget.dollars is not None
        if not wanted or (not counts_money and wanted == self._grants.keys()):
            self._prices = dict.fromkeys(wanted, FREE)
            return
        snapshot = await store.snapshot()
        prices: Prices = dict.fromkeys(wanted, FREE)
        if counts_money:
            prices = _prices(snapshot, wanted)
        if prices == self._prices:
            return
        for way in self._grants.keys() & wanted:
            if self._grants[way].dollars_per_gb != FREE or prices[way] != FREE:
                await self._end(way)
        self._prices = prices
        if self._looks_for_others:
            await self._take_over(prices)
        shares = share_out(self._budget, _claims(snapshot, prices), self._spent)
        for way in wanted - self._grants.keys():
            vm = snapshot.vms.get(way.vm)
            disks = vm is not None and self._copies_disks(vm)
            grant = self._grants[way] = _Grant(shares[way], prices[way], disks)
            if grant.most_bytes > 0:
                await self._begin(way, grant)

    async def _try_again(self) -> None:
        """Now and then, begin again what isn't kept warm though it should be."""
        self._looks_until_again -= 1
        if self._looks_until_again > 0:
            return
        failed = {way for way, grant in self._grants.items() if grant.failed}
        for source in {way.source for way in self._grants}:
            with suppress(Error):  # the next look may tell
                broken = await self._gateways.broken_off(source)
                failed |= {
                    way
                    for way in self._grants
                    if way.source == source and (way.vm, way.destination) in broken
                }
        self._pause = min(2 * self._pause, MOST_LOOKS_UNTIL_AGAIN) if failed else LOOKS_UNTIL_AGAIN
        self._looks_until_again = self._pause
        for way in failed:
            await self._begin_again(way)

    async def _begin_again(self, way: Way) -> None:
        """Begin anew with what is left of a VM's share; others keep theirs, and what they are at."""
        grant, before = self._grants[way], self._spent.get(way, Spent())
        await self._end(way)
        left_bytes = grant.most_bytes - (self._spent[way].sent_bytes - before.sent_bytes)
        if left_bytes < 0:  # for a daemon that is gone: that was of others' shares, too
            self._prices = {}
            return
        again = self._grants[way] = _Grant(left_bytes, grant.dollars_per_gb, grant.disks)
        if left_bytes > 0:
            await self._begin(way, again)

    async def _take_over(self, prices: Prices) -> None:
        """End what gateways do for somebody else already, and count what that has cost."""
        self._looks_for_others = False
        for way, dollars_per_gb in prices.items():
            with suppress(Error):  # it will refuse to begin, too
                sent = await self._gateways.cool(way.vm, way.source, way.destination)
                if sent is not None:
                    self._spent[way] = Spent().and_also(sent.wire_bytes, dollars_per_gb)

    async def _begin(self, way: Way, grant: _Grant) -> None:
        grant.asked = True  # also where it can't be: it isn't asked for again and again
        try:
            await self._gateways.warm(
                way.vm,
                way.source,
                way.destination,
                most_wire_bytes=grant.most_bytes,
                bytes_per_second=self._budget.bytes_per_second,
                disks=grant.disks,
            )
        except Error as error:
            grant.failed = True
            if self._told.get(way) != (why := str(error)):
                self._told[way] = why
                log.warning("not_warmed", vm=way.vm, destination=way.destination, why=why)
        else:
            self._told.pop(way, None)
            log.info(
                "warming_begun",
                vm=way.vm,
                destination=way.destination,
                most_bytes=grant.most_bytes,
            )

    async def _end(self, way: Way) -> None:
        """Have it ended, and count what was sent: where nobody tells how much, all that might have been."""
        grant = self._grants.pop(way)
        spent = self._spent.setdefault(way, Spent())
        if not grant.asked:
            return
        sent_bytes = 0 if grant.failed else grant.most_bytes
        try:
            sent = await self._gateways.cool(way.vm, way.source, way.destination)
            sent_bytes = sent.wire_bytes if sent else sent_bytes
        except Error as error:
            if not grant.failed:
                log.warning("not_cooled", vm=way.vm, destination=way.destination, why=str(error))
        spent = self._spent[way] = spent.and_also(sent_bytes, grant.dollars_per_gb)
        if grant.failed:
            return
        log.info(
            "warming_ended",
            vm=way.vm,
            destination=way.destination,
            sent_bytes=spent.sent_bytes,
            dollars=round(spent.dollars, 6),
        )


def _prices(snapshot: Snapshot, ways: set[Way]) -> Prices:
    tariff = EgressTariff(clouds=snapshot.clouds, prices=snapshot.prices)
    return {
        way: tariff.dollars_per_gb(way.source, way.destination)
        if way.source in snapshot.prices
        else None
        for way in ways
    }


def _claims(snapshot: Snapshot, prices: Mapping[Way, float | None]) -> list[Claim]:
    vms = snapshot.vms
    return [
        Claim(
            way=way,
            memory_bytes=vms[way.vm].needs.memory_bytes if way.vm in vms else 0,
            dollars_per_gb=dollars_per_gb,
        )
        for way, dollars_per_gb in prices.items()
    ]
