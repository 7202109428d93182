"""Breaks a deadlock: chooses the VM that steps aside, and the host where it waits.

Moves are deadlocked where each needs the room of another that can't leave either (two full clouds that would
swap are the smallest such cycle). One VM on the cycle is parked where there is room, the others move up, and
it goes on to its destination. Taken is what costs least, of the parkings that let somebody begin at once; if
none does, of those that bring somebody nearer to it.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

from transhume.knowledge.model import NOTHING, HostName, Resources, VmName
from transhume.plan.schedule.ground import Ground
from transhume.plan.schedule.moves import Berth, Move, Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Parking:
    """A VM that steps aside."""

    move: Move
    berth: Berth
    makes_room_for: VmName


def find_parking(
    waiting: Sequence[Move], may_park: Set[VmName], ground: Ground, terms: Terms, now: float
) -> Parking | None:
    """Return the cheapest parking that helps, None where there is none.

    Args:
        waiting: moves none of which can begin.
        may_park: the VMs among them that haven't been parked yet.
        ground: how things are; nothing is on its way.
        terms: which hosts may be parked on.
        now: seconds since the start.
    """
    wanted: dict[HostName, list[Move]] = defaultdict(list)
    for move in waiting:
        wanted[move.destination].append(move)
    best: tuple[tuple[bool, bool, float, float, VmName, HostName], Parking] | None = None
    for move in waiting:
        hopeful = [m for m in wanted[move.source] if m.vm != move.vm] or _peers(
            move, waiting, ground
        )
        if move.vm not in may_park or not hopeful:
            continue
        helped = _helped(move, hopeful, ground)
        for berth in _open(move, ground, terms, now):
            key = (
                helped is None,
                not _spare(move, berth, wanted[berth.host], ground),
                berth.dollars,
                berth.seconds_in + berth.seconds_out,
                move.vm,
                berth.host,
            )
            if best is None or key < best[0]:
                named = helped or min(m.vm for m in hopeful)
                best = key, Parking(move=move, berth=berth, makes_room_for=named)
    return best[1] if best else None


def _peers(move: Move, waiting: Sequence[Move], ground: Ground) -> list[Move]:
    """Return those that a spread keeps waiting for the VM, as it keeps the VM waiting for them."""
    watches = ground.watches.get(move.vm, ())
    return [m for m in waiting if m.vm != move.vm and any(m.vm in w.rule.vms for w in watches)]


def _helped(leaver: Move, hopeful: Sequence[Move], ground: Ground) -> VmName | None:
    """Return who could begin once a VM has left its host."""
    yard = ground.yards[leaver.source]
    room = Resources(
        vcpus=yard.vcpus + leaver.needs.vcpus,
        memory_bytes=yard.memory_bytes + leaver.needs.memory_bytes,
    )
    names = (
        m.vm
        for m in hopeful
        if room.covers(m.needs) or ground.yards[m.destination].has(m.needs, kept=False)
    )
    return min(names, default=None)


def _open(move: Move, ground: Ground, terms: Terms, now: float) -> Iterator[Berth]:
    """Yield the berths that a VM could be sent to now, and in time."""
    for berth in terms.berths(move):
        yard = ground.yards.get(berth.host)
        if berth.host in (move.source, move.destination) or yard is None:
            continue
        if now + berth.seconds_in > move.ends_within:
            continue
        allowed = all(w.allows(move.vm, berth.cloud) for w in ground.watches.get(move.vm, ()))
        if allowed and yard.has(move.needs, kept=False):
            yield berth


def _spare(move: Move, berth: Berth, coming: Sequence[Move], ground: Ground) -> bool:
    """Say whether a berth has the room beside all that are still to come there."""
    yard = ground.yards[berth.host]
    rest = sum((m.needs for m in coming), start=NOTHING) + move.needs
    return yard.vcpus >= rest.vcpus and yard.memory_bytes >= rest.memory_bytes
