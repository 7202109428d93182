"""What each leg waits for, so that every promise holds however long moves really take.

Times are predictions; who carries a plan out goes by what has ended. Let the arrivals at a host be numbered in
the order of their beginning. The n-th relies on so many departures, the earliest first, that the first n
arrivals fit beside what is left. Whatever set of arrivals has begun, the last of them in this order vouches
for the room of them all, for what it relies on has ended. In the same way a member of a spread relies on the
members that were to have arrived before it leaves. (These are the partial orders of Policella et al., "From
precedence constraint posting to partial order schedules", 2007, with the order of beginning fixed.)
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from transhume.knowledge.model import HostName, VmName
from transhume.plan.schedule.moves import Leg, Terms


def with_promises(legs: Sequence[Leg], terms: Terms) -> tuple[Leg, ...]:
    """Return the legs in the order of their beginning with what they wait for, when they begin, and stages.

    Args:
        legs: in the order of their beginning; `after` is settled.
        terms: room and spreads.
    """
    relies: list[set[int]] = [set() for _ in legs]
    _second_legs(legs, relies)
    _room(legs, terms, relies)
    _spreads(legs, terms, relies)
    timed: list[Leg] = []
    stages = _stages(legs, relies)
    for leg, needed, stage in zip(legs, relies, stages, strict=True):
        start = max((timed[n].end for n in (*leg.after, *needed)), default=0.0)
        timed.append(
            replace(
                leg,
                start=start,
                end=start + leg.move.seconds,
                relies_on=tuple(sorted(needed)),
                stage=stage,
            )
        )
    return tuple(timed)


def _second_legs(legs: Sequence[Leg], relies: list[set[int]]) -> None:
    before: dict[VmName, int] = {}
    for number, leg in enumerate(legs):
        if leg.move.vm in before:
            relies[number].add(before[leg.move.vm])
        before[leg.move.vm] = number


def _room(legs: Sequence[Leg], terms: Terms, relies: list[set[int]]) -> None:
    leaving: dict[HostName, list[int]] = defaultdict(list)
    for number in sorted(range(len(legs)), key=lambda n: (legs[n].end, n)):
        leaving[legs[number].move.source].append(number)
    left = dict.fromkeys(terms.free, 0)
    free = {host: (room.vcpus, room.memory_bytes) for host, room in terms.free.items()}
    for number, leg in enumerate(legs):
        host, needs = leg.move.destination, leg.move.needs
        vcpus, memory = free[host][0] - needs.vcpus, free[host][1] - needs.memory_bytes
        departures, count = leaving[host], left[host]
        while (vcpus < 0 or memory < 0) and count < len(departures):
            gone = legs[departures[count]].move.needs
            vcpus, memory = vcpus + gone.vcpus, memory + gone.memory_bytes
            count += 1
        left[host], free[host] = count, (vcpus, memory)
        relies[number].update(departures[:count])


def _spreads(legs: Sequence[Leg], terms: Terms, relies: list[set[int]]) -> None:
    moving = {leg.move.vm for leg in legs}
    for rule in terms.spreads:
        wanted = min(rule.minimum, len({terms.cloud_of[vm] for vm in rule.vms}))
        if len({terms.cloud_of[vm] for vm in rule.vms - moving}) >= wanted:
            continue  # those that stay keep it
        mates = [number for number, leg in enumerate(legs) if leg.move.vm in rule.vms]
        for place, number in enumerate(mates):
            start = legs[number].start
            relies[number].update(n for n in mates[:place] if legs[n].end <= start)


def _stages(legs: Sequence[Leg], relies: Sequence[set[int]]) -> list[int]:
    """Cut the order wherever a leg waits for one since the last cut."""
    stages: list[int] = []
    first = 0
    for number, (leg, needed) in enumerate(zip(legs, relies, strict=True)):
        if any(other >= first for other in (*leg.after, *needed)):
            first = number
            stages.append(stages[-1] + 1)
        else:
            stages.append(stages[-1] if stages else 0)
    return stages
