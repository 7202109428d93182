"""What the executor writes down: the part of the knowledge that it needs, and nothing more.

Every write is refused with `LeaseLost` when another daemon has taken the pen; the executor then stops at once.
"""

from typing import Protocol

from transhume.knowledge.model import JournalRecord, MoveProgress, Outcome


class Ledger(Protocol):
    """Where phases, progress and outcomes are kept."""

    async def append_journal(self, record: JournalRecord) -> None:
        """Make a record durable before returning."""
        ...

    async def put_move_progress(self, progress: MoveProgress) -> None:
        """Keep the latest word on a running move."""
        ...

    async def add_outcome(self, outcome: Outcome) -> None:
        """Keep how a step ended."""
        ...
