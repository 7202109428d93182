"""What it costs that VMs which belong together are in different clouds while a plan is carried out.

Charged is the traffic of each pair that shares a cloud before the plan and after it, for the seconds in which
it doesn't: rate x duration x egress price. A VM counts as being where it was until its leg has ended.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from transhume.knowledge.model import CloudName, VmName
from transhume.plan.schedule.moves import Chatter, Leg, Talk

Way = Sequence[tuple[float, CloudName]]
"""When a VM arrives where, its home first."""


def split_dollars(
    legs: Iterable[Leg], chatter: Chatter, cloud_of: Mapping[VmName, CloudName]
) -> dict[VmName, float]:
    """Return what splitting costs, by VM that moves; what two movers cost belongs to both by half."""
    ways: dict[VmName, list[tuple[float, CloudName]]] = {}
    for leg in sorted(legs, key=lambda each: each.end):
        vm = leg.move.vm
        ways.setdefault(vm, [(0.0, leg.move.source_cloud)])
        ways[vm].append((leg.end, leg.move.destination_cloud))
    dollars: dict[VmName, float] = defaultdict(float)
    for talk in chatter.talks:
        movers = [vm for vm in (talk.one, talk.other) if vm in ways]
        cost = _cost(talk, chatter, *(ways.get(v) or [(0.0, cloud_of[v])] for v in _ends(talk)))
        for vm in movers if cost > 0 else ():
            dollars[vm] += cost / len(movers)
    return dict(dollars)


def _ends(talk: Talk) -> tuple[VmName, VmName]:
    return talk.one, talk.other


def _cost(talk: Talk, chatter: Chatter, one: Way, other: Way) -> float:
    """Return what a pair costs while it's split."""
    if one[0][1] != other[0][1] or one[-1][1] != other[-1][1]:
        return 0.0
    instants = sorted({at for at, _ in (*one, *other)})
    return sum(
        (then - now) * chatter.dollars_per_second(talk, _at(one, now), _at(other, now))
        for now, then in pairwise(instants)
    )


def _at(way: Way, now: float) -> CloudName:
    return next(cloud for at, cloud in reversed(way) if at <= now)
