"""The executor's ledger on the store: what it writes carries the fencing token of this daemon's lease."""

from transhume.knowledge.model import (
    JournalRecord,
    MoveProgress,
    Outcome,
    PlanId,
    PlanStatus,
)
from transhume.knowledge.store import Store


class FencedLedger:
    """Writes with one fencing token; raises `LeaseLost` once another daemon has the pen."""

    def __init__(self, store: Store, token: int) -> None:
        self._store = store
        self._token = token

    async def append_journal(self, record: JournalRecord) -> None:
        """Make a record durable before returning."""
        await self._store.append_journal(record, self._token)

    async def put_move_progress(self, progress: MoveProgress) -> None:
        """Keep the latest word on a running move."""
        await self._store.put_move_progress(progress)

    async def add_outcome(self, outcome: Outcome) -> None:
        """Keep how a step ended."""
        await self._store.add_outcome(outcome, self._token)

    async def set_plan_status(self, plan: PlanId, status: PlanStatus) -> None:
        """Move a plan on."""
        await self._store.set_plan_status(plan, status, self._token)
