"""The policies' rules and the notices, read as constraints on a placement.

Three things come of them: VMs that must leave where they are (with why), places that are barred to a VM (with
why), and constraints over several VMs. A constraint that holds now is hard: no plan breaks it. One that's
broken now is soft: a plan mends it as far as it can. Where a notice takes members away, `together`, `spread`
and measured groups are soft too: better apart than lost. Pins, forbidden clouds and quotas don't give way.

What a VM's being left behind weighs is its size (vCPUs plus GiB). All soft constraints together weigh half of
the smallest VM, so that they choose between evacuations of like size and never hinder one.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from transhume.knowledge.model import BYTES_PER_GIB, Resources
from transhume.plan.constraints import (
    AllOrNone,
    AtLeastClouds,
    AtMost,
    Constraint,
    CutLimit,
    Indices,
    SameCloud,
    Terrain,
)
from transhume.plan.money import Bill
from transhume.plan.networks import lack_text
from transhume.plan.situation import Situation
from transhume.policies.model import (
    AnyOf,
    Forbid,
    Pin,
    Policy,
    Python,
    Quota,
    Rule,
    Spread,
    Together,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRule:
    """A constraint over several VMs, and how a person would say it."""

    constraint: Constraint
    text: str
    broken: bool = False
    """It doesn't hold where the VMs are now, and a policy's rule says that it must."""

    @property
    def members(self) -> Indices:
        """The VMs that the rule names; none for a limit on traffic."""
        return () if isinstance(self.constraint, CutLimit) else self.constraint.members


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What rules and notices come to."""

    must_leave: Mapping[int, str]
    """Why, by VM."""
    barred: Mapping[tuple[int, int], str]
    """Why, by VM and place."""
    shared: tuple[SharedRule, ...]

    @property
    def broken(self) -> bool:
        """Say whether anything has to be mended."""
        return bool(self.must_leave) or any(rule.broken for rule in self.shared)

    @property
    def involved(self) -> frozenset[int]:
        """The VMs that something broken is about."""
        members = (vm for rule in self.shared if rule.broken for vm in rule.members)
        return frozenset(self.must_leave) | frozenset(members)


def weight(needs: Resources) -> float:
    """Return what leaving a VM of this size behind weighs."""
    return max(needs.vcpus + needs.memory_bytes / BYTES_PER_GIB, 0.1)


def read_rules(situation: Situation, bill: Bill) -> Ruling:
    """Turn policies and notices into what a placement must heed."""
    must_leave = dict(_must_leave(situation))
    raw = [
        *_groups_leave_whole(situation, must_leave),
        *_keep_together(situation, bill, must_leave),
    ]
    for policy in situation.policies:
        for rule in policy.rules:
            raw += _shared(situation, policy, rule, must_leave)
    return Ruling(
        must_leave=must_leave,
        barred=dict(_barred(situation)),
        shared=tuple(_weighed(situation, bill, must_leave, raw)),
    )


def _must_leave(situation: Situation) -> Iterator[tuple[int, str]]:
    for vm in situation.governed:
        if situation.vms[vm] in situation.snapshot.moving:
            continue
        why = _bar(situation, vm, int(situation.home[vm]))
        deadline = situation.deadline(vm)
        if situation.evacuates(vm) and deadline is not None:
            host = situation.snapshot.hosts[situation.snapshot.placement.host_of[situation.vms[vm]]]
            whole = all(
                h.name in situation.deadlines for h in situation.snapshot.hosts_of(host.cloud)
            )
            what = host.cloud if whole else f"host {host.name} of {host.cloud}"
            why = f"{what} will be gone at {deadline:%H:%M:%S} UTC"
        if why:
            yield vm, why


def _barred(situation: Situation) -> Iterator[tuple[tuple[int, int], str]]:
    snapshot = situation.snapshot
    for vm in situation.governed:
        for k, place in enumerate(situation.places):
            if k == situation.home[vm]:
                continue
            reports = [
                snapshot.capacity[host.name]
                for host in situation.hosts_in(k)
                if host.name in snapshot.capacity
            ]
            totals = [report.total for report in reports if not report.silent]
            why = situation.heard.stuck.get(situation.vms[vm]) or _bar(situation, vm, k)
            if missing := situation.missing_networks.get((vm, place.cloud)):
                why = why or lack_text(place.cloud, missing)
            if place.doomed:
                why = f"{place.cloud} is under a revocation notice itself"
            elif reports and not totals:
                why = why or f"no host of {place.cloud} gives an answer"
            elif not totals:
                why = why or f"nobody reported the capacity of {place.cloud}"
            elif not any(amount.covers(situation.needs(vm)) for amount in totals):
                why = why or f"no host of {place.cloud} is large enough"
            if why:
                yield (vm, k), why


def _bar(situation: Situation, vm: int, place: int) -> str:
    """Return which policy wants the VM elsewhere, or nothing."""
    cloud, name = situation.places[place].cloud, situation.vms[vm]
    for policy in situation.governing[name]:
        for rule in policy.rules:
            if isinstance(rule, Quota | Python) or not rule.who.matches(
                situation.snapshot.vms[name]
            ):
                continue
            if isinstance(rule, Pin) and rule.cloud != cloud:
                return f"policy {policy.name} pins {name} to {rule.cloud}"
            if isinstance(rule, Forbid) and cloud in rule.clouds:
                return rule.why or f"policy {policy.name} forbids {cloud} to {name}"
            if isinstance(rule, AnyOf) and cloud not in rule.clouds:
                return f"policy {policy.name} wants {name} in {' or '.join(rule.clouds)}"
    return situation.heard.forbidden.get((name, cloud), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    """A constraint before it's known whether it's hard, and what it would weigh if not."""

    constraint: Constraint
    text: str
    gives_way: bool
    """It's soft from the start: an evacuation comes before it."""
    importance: float
    rule: bool = True


def _shared(
    situation: Situation, policy: Policy, rule: Rule, must_leave: Mapping[int, str]
) -> Iterator[_Raw]:
    match rule:
        case Together(who=who):
            members = situation.governed_by(policy, who)
            if len(members) > 1:
                yield _Raw(
                    constraint=SameCloud(members=members),
                    text=f"policy {policy.name} wants {named(situation, members)} in one cloud",
                    gives_way=_revoked(situation, members, must_leave),
                    importance=2,
                )
        case Spread(who=who, minimum=minimum):
            members = situation.governed_by(policy, who)
            if members:
                yield _Raw(
                    constraint=AtLeastClouds(members=members, minimum=minimum),
                    text=f"policy {policy.name} wants {named(situation, members)} in at least "
                    f"{minimum} clouds",
                    gives_way=_revoked(situation, members, must_leave),
                    importance=2,
                )
        case Quota(cloud=cloud, vms=limit) if cloud in situation.clouds:
            members = situation.governed_by(policy)
            yield _Raw(
                constraint=AtMost(
                    members=members, cloud=situation.clouds.index(cloud), limit=limit
                ),
                text=f"policy {policy.name} allows {limit} VM{'' if limit == 1 else 's'} in {cloud}",
                gives_way=False,
                importance=2,
            )
        case (
            _
        ):  # pins, `any_of` and forbidden clouds are about one VM; quotas of unknown clouds hold
            pass


def _groups_leave_whole(situation: Situation, must_leave: Mapping[int, str]) -> Iterator[_Raw]:
    for members in situation.groups.values():
        leaving = tuple(vm for vm in members if vm in must_leave)
        if len(leaving) > 1:
            yield _Raw(
                constraint=AllOrNone(members=leaving),
                text=f"{named(situation, leaving)} are one group",
                gives_way=True,
                importance=1,
                rule=False,
            )


def _keep_together(
    situation: Situation, bill: Bill, must_leave: Mapping[int, str]
) -> Iterator[_Raw]:
    rates = bill.rates.sum(axis=1)
    crossing = situation.cloud[situation.home[bill.pairs]]
    split = crossing[:, 0] != crossing[:, 1]
    for policy in situation.policies:
        if policy.keep_together is None:
            continue
        ours = frozenset(situation.governed_by(policy))
        for members in situation.groups.values():
            kept = tuple(vm for vm in members if vm in ours)
            inside = np.flatnonzero(np.isin(bill.pairs, kept).all(axis=1))
            limit = policy.keep_together.cut_above_bytes_per_second
            if not len(inside) or rates[inside].sum() <= limit:
                continue
            now = float(rates[inside][split[inside]].sum())
            yield _Raw(
                constraint=CutLimit(
                    pairs=tuple(int(pair) for pair in inside), bytes_per_second=max(limit, now)
                ),
                text=f"policy {policy.name} keeps the group of {named(situation, kept)} together",
                gives_way=_revoked(situation, kept, must_leave),
                importance=1,
                rule=False,
            )


def _revoked(situation: Situation, members: tuple[int, ...], must_leave: Mapping[int, str]) -> bool:
    return any(vm in must_leave and situation.evacuates(vm) for vm in members)


def _weighed(
    situation: Situation, bill: Bill, must_leave: Mapping[int, str], raw: list[_Raw]
) -> Iterator[SharedRule]:
    terrain = Terrain(
        home=situation.home, cloud=situation.cloud, pairs=bill.pairs, rates=bill.rates
    )
    excesses = [item.constraint.excess(terrain, situation.home) for item in raw]
    lightest = min((weight(situation.needs(vm)) for vm in must_leave), default=1.0)
    whole = sum(
        item.importance * max(1.0, excess, _worst(item.constraint))
        for item, excess in zip(raw, excesses, strict=True)
    )
    for item, excess in zip(raw, excesses, strict=True):
        soft = excess > 0 or item.gives_way
        penalty = item.importance * lightest / 2 / whole if soft else math.inf
        yield SharedRule(
            constraint=replace(item.constraint, penalty=penalty),
            text=item.text,
            broken=item.rule and excess > 0,
        )


def _worst(constraint: Constraint) -> float:
    """Return the most that a constraint can be broken by."""
    match constraint:
        case AtLeastClouds(minimum=minimum):
            return float(minimum)
        case AtMost(members=members):
            return float(len(members))
        case _:
            return 1.0


def named(situation: Situation, members: tuple[int, ...]) -> str:
    """Return the names of VMs for a sentence, the middle left out where there are many."""
    names = [situation.vms[vm] for vm in members]
    if len(names) > 6:
        return f"{', '.join(names[:5])} and {len(names) - 5} more"
    return ", ".join(names)
