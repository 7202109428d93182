"""Whether VMs fit on hosts, how much room they lack there, and how a person would say that."""

from collections.abc import Iterable

from transhume.knowledge.model import NOTHING, HostName, Resources, total
from transhume.plan.reasons import amount_text, memory_text


def lacking_room(needs: list[Resources], free: list[Resources]) -> Resources:
    """Return the room that has to be added: to the best host for one VM, in all for several."""
    need = total(needs)
    short = (
        [no_debt(need - left) for left in free]
        if len(needs) == 1
        else [no_debt(need - total(map(no_debt, free)))]
    )
    least = min(short, key=lambda amount: (amount.vcpus, amount.memory_bytes), default=need)
    # In all there may be enough, but on no single host; then no less than the smallest VM is lacking.
    return least if least != NOTHING else min(needs, key=lambda each: each.vcpus)


def fit(needs: Iterable[Resources], free: dict[HostName, Resources]) -> bool:
    """Say whether VMs fit on hosts, each on the first that has the room, the largest first."""
    for need in sorted(needs, key=lambda need: (-need.memory_bytes, -need.vcpus)):
        host = next((name for name, left in free.items() if left.covers(need)), None)
        if host is None:
            return False
        free[host] -= need
    return True


def room_text(needs: list[Resources], cloud: str, free: Resources) -> str:
    """Return what VMs need, and that a cloud hasn't it."""
    need = total(needs)
    who = "it needs" if len(needs) == 1 else "they need"
    if free.covers(need):
        return f"{who} {amount_text(need)}; {cloud} has that much, but not on single hosts"
    has = (
        f"{free.vcpus} free {'vCPU' if free.vcpus == 1 else 'vCPUs'}"
        if free.vcpus < need.vcpus
        else f"{memory_text(free.memory_bytes)} of memory free"
    )
    return f"{who} {amount_text(need)}; {cloud} has {has}"


def no_debt(amount: Resources) -> Resources:
    """Return an amount with nothing below zero."""
    return Resources(vcpus=max(0, amount.vcpus), memory_bytes=max(0, amount.memory_bytes))
