"""Tells what a running daemon sees, decides and does, by reading the knowledge as any face would.

The one thing that it does itself is to raise a price, as a price feed would. It knows nothing of what is behind
the daemon: simulated clouds and real ones are told of alike.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from transhume.cli.following import follow, outcomes_of
from transhume.cli.views.heatmap import groups_table, heat_map
from transhume.cli.views.plans import decision, outcomes
from transhume.errors import PermanentError
from transhume.knowledge.model import (
    NoPlan,
    Outcome,
    Plan,
    PlanStatus,
    PriceTick,
    Snapshot,
    TrafficWindow,
)
from transhume.knowledge.store import Store
from transhume.quantities import format_dollars_per_hour, format_duration

T = TypeVar("T")

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What there was to tell."""

    snapshot: Snapshot
    plan: Plan
    outcomes: tuple[Outcome, ...]
    windows: tuple[TrafficWindow, ...]


class Narrator:
    """Tells one story: traffic, calm, a price that rises, a plan, its moves, the bill."""

    def __init__(self, console: Console, store: Store, *, patience_seconds: float = 60.0) -> None:
        self._console = console
        self._store = store
        self._patience_seconds = patience_seconds

    async def tell(self, rise: PriceTick, *, observation_seconds: float) -> Story:
        """Tell it all; raises `PermanentError` when the daemon does nothing for too long."""
        snapshot = await self._traffic(observation_seconds)
        await self._calm()
        plan = await self._rise(rise, snapshot)
        await self._moves(plan)
        return await self._result(plan, snapshot)

    async def _traffic(self, seconds: float) -> Snapshot:
        self._heading("Monitor and analyse: who talks to whom")

        async def seen() -> Snapshot | None:
            snapshot = await self._store.snapshot()
            enough = snapshot.matrix is not None and snapshot.matrix.seconds >= seconds
            return snapshot if enough and snapshot.groups else None

        snapshot = await self._until(seen, "traffic to be seen")
        assert snapshot.matrix is not None
        self._say(
            f"{len(snapshot.vms)} VMs, {format_duration(snapshot.matrix.seconds)} of frames; nothing but "
            "addresses and lengths was looked at:"
        )
        self._console.print(heat_map(snapshot.matrix, snapshot.groups))
        self._console.print(groups_table(snapshot.groups))
        return snapshot

    async def _calm(self) -> None:
        self._heading("Plan: prices are level")

        async def decided() -> NoPlan | None:
            latest = await self._store.latest_plan()
            return latest.plan if latest and isinstance(latest.plan, NoPlan) else None

        self._console.print(decision(await self._until(decided, "a first decision")))

    async def _rise(self, rise: PriceTick, snapshot: Snapshot) -> Plan:
        before = snapshot.prices[rise.cloud].dollars_per_vcpu_hour
        self._heading(
            f"Plan: {rise.cloud} goes from ${before:g} to ${rise.dollars_per_vcpu_hour:g} a vCPU-hour"
        )
        await self._store.put_price(rise)

        async def planned() -> Plan | None:
            latest = await self._store.latest_plan()
            plan = latest.plan if latest else None
            acts = latest is not None and latest.status not in (None, PlanStatus.RECOMMENDED)
            return plan if acts and isinstance(plan, Plan) else None

        plan = await self._until(planned, "a plan")
        self._console.print(decision(plan))
        return plan

    async def _moves(self, plan: Plan) -> None:
        self._heading("Execute: live migration, one transaction")
        status = await follow(self._store, plan, self._console)
        self._say(f"the plan is {status}")

    async def _result(self, plan: Plan, before: Snapshot) -> Story:
        self._heading("Knowledge: predicted beside measured, and the bill")
        found = await outcomes_of(self._store, plan)
        self._console.print(outcomes(found))
        before_rate, after_rate = plan.before.total, plan.after.running
        self._say(
            f"the bill fell from {format_dollars_per_hour(before_rate)} "
            f"to {format_dollars_per_hour(after_rate)}"
        )
        assert before.matrix is not None
        windows = await self._store.windows(before.matrix.start)
        return Story(snapshot=before, plan=plan, outcomes=found, windows=windows)

    async def _until(self, question: Callable[[], Awaitable[T | None]], what: str) -> T:
        try:
            async with asyncio.timeout(self._patience_seconds):
                while (answer := await question()) is None:
                    await asyncio.sleep(POLL_SECONDS)
                return answer
        except TimeoutError:
            raise PermanentError(
                f"waited {self._patience_seconds:.0f} s for {what}, in vain"
            ) from None

    def _heading(self, text: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(text, style="bold"), align="left", style="dim"))

    def _say(self, what: RenderableType) -> None:
        self._console.print(what)
