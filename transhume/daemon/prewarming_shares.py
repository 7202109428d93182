"""How much may be sent ahead for each VM of a plan, of what its budget says in bytes and in money.

Bytes are for each VM. Money is for all of them: what is left of it is shared out in proportion to their memory,
among those whose egress costs something, and counts in bytes at the price in force. The lower limit holds.
Pure: what was spent and what is asked goes in, amounts come out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from transhume.deployment.model import PrewarmBudget
from transhume.knowledge.model import BYTES_PER_GB, CloudName, VmName


@dataclass(frozen=True, slots=True)
class Way:
    """Where a VM runs, and where it may go."""

    vm: VmName
    source: CloudName
    destination: CloudName


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a VM's part of the money is reckoned from."""

    way: Way
    memory_bytes: int
    dollars_per_gb: float | None
    """Of egress, for 10^9 bytes; None: nobody tells it, and nothing is sent for money."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What was sent ahead for a VM, and what that has cost."""

    sent_bytes: int = 0
    dollars: float = 0.0

    def and_also(self, sent_bytes: int, dollars_per_gb: float | None) -> "Spent":
        """Return it with more that was sent, at a price for 10^9 bytes."""
        dollars = sent_bytes / BYTES_PER_GB * (dollars_per_gb or 0.0)
        return Spent(self.sent_bytes + sent_bytes, self.dollars + dollars)


def share_out(
    budget: PrewarmBudget, claims: Iterable[Claim], spent: Mapping[Way, Spent]
) -> dict[Way, int]:
    """Return how many more bytes may be sent for each VM; 0 where its part is used up."""
    asked = tuple(claims)
    so_far = {claim.way: spent.get(claim.way, Spent()) for claim in asked}
    shares = {way: max(0, budget.bytes_per_vm - each.sent_bytes) for way, each in so_far.items()}
    if budget.dollars is None:
        return shares
    dollars = max(0.0, budget.dollars - sum(each.dollars for each in so_far.values()))
    billed = [claim for claim in asked if claim.dollars_per_gb != 0]
    memory_bytes = sum(claim.memory_bytes for claim in billed)
    for claim in billed:
        part = dollars * claim.memory_bytes / max(1, memory_bytes)
        shares[claim.way] = min(shares[claim.way], _bytes_for(part, claim.dollars_per_gb))
    return shares


def _bytes_for(dollars: float, dollars_per_gb: float | None) -> int:
    return int(dollars / dollars_per_gb * BYTES_PER_GB) if dollars_per_gb else 0
