"""Reads a situation as wishes: every rule, notice, capacity and limit that a mending plan heeds, by itself.

Heeded are the same things as in `rules` and `formulate`; there they become one problem, here each keeps its
name. What gives way by design (a `together` or `spread` that held until a notice came) is no wish.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import CloudName, ConflictKind, ConflictMember
from transhume.plan.conflict.limits import limits
from transhume.plan.conflict.question import (
    Bar,
    Booleans,
    Integers,
    Most,
    OneCloud,
    Part,
    Question,
    SeveralClouds,
    Wish,
)
from transhume.plan.constraints import AtLeastClouds, Indices, SameCloud, Terrain
from transhume.plan.money import Bill
from transhume.plan.rules import Ruling, named
from transhume.plan.situation import Situation
from transhume.policies.model import (
    AnyOf,
    Forbid,
    Ordered,
    Pin,
    Policy,
    Python,
    Quota,
    Rule,
    Spread,
    Together,
)


def read_wishes(
    situation: Situation, bill: Bill, ruling: Ruling, bans: Mapping[tuple[int, int], str]
) -> Question:
    """Return the question whether everything that is wanted in a situation can hold.

    Args:
        situation: VMs, places and policies.
        bill: what moves take.
        ruling: what is broken.
        bans: places that turned out to be impossible for a VM, with why.
    """
    needs = [situation.needs(vm) for vm in range(len(situation.vms))]
    free = np.zeros((len(situation.vms), len(situation.places)), dtype=np.bool_)
    free[np.arange(len(free)), situation.home] = True
    free[list(at_will(situation))] = True
    return Question(
        count=np.ones(len(needs), dtype=np.int64),
        free=free,
        needs=np.array([(n.vcpus, n.memory_bytes) for n in needs], dtype=np.int64).reshape(-1, 2),
        cloud=situation.cloud,
        wishes=(
            *_Rules(situation=situation, bill=bill, ruling=ruling).wishes(),
            *limits(situation, bill, ruling, bans, at_will(situation)),
        ),
    )


def at_will(situation: Situation) -> Indices:
    """Return the VMs that can be moved now: governed, and not on their way."""
    moving = situation.snapshot.moving
    return tuple(vm for vm in situation.governed if situation.vms[vm] not in moving)


@dataclass(frozen=True, kw_only=True)
class _Rules:
    situation: Situation
    bill: Bill
    ruling: Ruling

    def wishes(self) -> Iterator[Wish]:
        for policy in self.situation.policies:
            for number, rule in enumerate(policy.rules, start=1):
                parts = tuple(self._parts(policy, rule))
                if parts:
                    what = words(self.situation, policy, rule)
                    member = ConflictMember(
                        kind=ConflictKind.RULE,
                        text=f"rule {number} of policy {policy.name} ({what})",
                        policy=policy.name,
                        rule=number,
                    )
                    yield Wish(member=member, parts=parts)

    def _parts(self, policy: Policy, rule: Rule) -> Iterator[Part]:
        match rule:
            case Pin(who=who, cloud=cloud):
                mine = self._at_will(self.situation.governed_by(policy, who))
                if len(mine):
                    yield Bar(members=mine, places=~self._in(cloud))
            case Forbid(who=who, clouds=clouds):
                mine = self._at_will(self.situation.governed_by(policy, who))
                if len(mine):
                    yield Bar(members=mine, places=self._in(*clouds))
            case AnyOf(who=who, clouds=clouds):
                mine = self._at_will(self.situation.governed_by(policy, who))
                if len(mine):
                    yield Bar(members=mine, places=~self._in(*clouds))
            case Ordered() | Python():  # the first gives way, the second answers for itself
                pass
            case Together(who=who):
                members = self.situation.governed_by(policy, who)
                if len(members) > 1 and not self._gives_way(SameCloud(members=members)):
                    yield OneCloud(members=np.array(members))
            case Spread(who=who, minimum=minimum):
                members = self.situation.governed_by(policy, who)
                spread = AtLeastClouds(members=members, minimum=minimum)
                if members and not self._gives_way(spread):
                    yield SeveralClouds(members=np.array(members), minimum=minimum)
            case Quota(cloud=cloud, vms=limit):
                members = self.situation.governed_by(policy)
                if members and cloud in self.situation.clouds:
                    places = self._in(cloud)
                    yield Most(members=np.array(members), places=places, limit=limit)

    def _gives_way(self, constraint: SameCloud | AtLeastClouds) -> bool:
        situation, bill = self.situation, self.bill
        terrain = Terrain(
            home=situation.home, cloud=situation.cloud, pairs=bill.pairs, rates=bill.rates
        )
        flees = any(
            vm in self.ruling.must_leave and situation.evacuates(vm) for vm in constraint.members
        )
        return flees and not constraint.excess(terrain, situation.home)

    def _at_will(self, members: Iterable[int]) -> Integers:
        mine = frozenset(at_will(self.situation))
        return np.array([vm for vm in members if vm in mine], dtype=np.int64)

    def _in(self, *clouds: CloudName) -> Booleans:
        return np.array([place.cloud in clouds for place in self.situation.places], dtype=np.bool_)


def words(situation: Situation, policy: Policy, rule: Rule) -> str:
    """Return what a rule wants, of which VMs."""
    match rule:
        case Pin(who=who, cloud=cloud):
            return f"{named(situation, situation.governed_by(policy, who))} in {cloud} only"
        case Forbid(who=who, clouds=clouds):
            whom = named(situation, situation.governed_by(policy, who))
            return f"{whom} never in {' or '.join(clouds)}"
        case AnyOf(who=who, clouds=clouds):
            whom = named(situation, situation.governed_by(policy, who))
            return f"{whom} in {' or '.join(clouds)} only"
        case Ordered(who=who, clouds=clouds):
            whom = named(situation, situation.governed_by(policy, who))
            return f"{whom} in the first of {', '.join(clouds)} that has room"
        case Python(name=name):
            return f"the rule {name} in Python"
        case Together(who=who):
            return f"{named(situation, situation.governed_by(policy, who))} in one cloud"
        case Spread(who=who, minimum=minimum):
            whom = named(situation, situation.governed_by(policy, who))
            return f"{whom} in at least {minimum} clouds"
        case Quota(cloud=cloud, vms=limit):
            return f"at most {limit} of its VMs in {cloud}"
