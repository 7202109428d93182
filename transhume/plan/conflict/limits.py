"""The wishes that aren't rules: notices, capacities, time, measured groups, prices, and what was ruled out."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import (
    CapacityReport,
    CloudName,
    ConflictKind,
    ConflictMember,
    VirtualNetworkName,
)
from transhume.plan.conflict.question import Bar, Booleans, Crossing, InTime, Part, Room, Wish
from transhume.plan.constraints import CutLimit, Indices
from transhume.plan.money import Bill
from transhume.plan.networks import reach_text
from transhume.plan.reasons import memory_text
from transhume.plan.rules import Ruling, named
from transhume.plan.situation import Situation


def limits(
    situation: Situation,
    bill: Bill,
    ruling: Ruling,
    bans: Mapping[tuple[int, int], str],
    at_will: Indices,
) -> Iterator[Wish]:
    """Return the wishes of a situation that aren't rules; `at_will` are the VMs that can be moved."""
    found = _Limits(situation=situation, bill=bill, ruling=ruling, at_will=at_will)
    yield from found.notices()
    yield from found.capacities()
    yield from found.times()
    yield from found.groups()
    yield from found.prices()
    yield from found.networks()
    yield from found.ruled_out(bans)


@dataclass(frozen=True, kw_only=True)
class _Limits:
    situation: Situation
    bill: Bill
    ruling: Ruling
    at_will: Indices

    def notices(self) -> Iterator[Wish]:
        """Nobody goes to where a notice holds, and who flees it doesn't stay."""
        situation = self.situation
        for k, place in enumerate(situation.places):
            if not place.doomed:
                continue
            gone = {situation.deadlines[host.name] for host in situation.hosts_in(k)}
            when = " and ".join(f"{at:%H:%M:%S}" for at in sorted(gone))
            hosts = ", ".join(host.name for host in situation.hosts_in(k))
            whole = len(situation.hosts_in(k)) == len(situation.snapshot.hosts_of(place.cloud))
            what = place.cloud if whole else f"{hosts} of {place.cloud}"
            out = [vm for vm in self.at_will if situation.home[vm] != k or situation.evacuates(vm)]
            if out:
                yield Wish(
                    member=ConflictMember(
                        kind=ConflictKind.NOTICE,
                        text=f"the revocation of {what} at {when} UTC",
                        cloud=place.cloud,
                    ),
                    parts=(self._bar(out, k),),
                )

    def capacities(self) -> Iterator[Wish]:
        """Of all that is in a place, and for a single VM: a host that is large enough."""
        situation = self.situation
        here = np.zeros((len(situation.places), 2), dtype=np.int64)
        for vm, k in enumerate(situation.home):
            needs = situation.needs(vm)
            here[k] += (needs.vcpus, needs.memory_bytes)
        for k in range(len(situation.places)):
            if not self._reports(k):
                yield self._unreported(k)
                continue
            free = [situation.free[host.name] for host in situation.hosts_in(k)]
            vcpus = int(here[k, 0]) + sum(max(0, each.vcpus) for each in free)
            memory = int(here[k, 1]) + sum(max(0, each.memory_bytes) for each in free)
            yield self._capacity(k, f"{vcpus} vCPUs", Room(place=k, resource=0, limit=vcpus))
            text = f"{memory_text(memory)} of memory"
            yield self._capacity(k, text, Room(place=k, resource=1, limit=memory))
            yield from self._too_small_hosts(k)

    def times(self) -> Iterator[Wish]:
        """What goes over a link is there before the notice's end."""
        situation = self.situation
        hurried: dict[int, dict[float, list[int]]] = defaultdict(lambda: defaultdict(list))
        for vm in self.at_will:
            left = situation.seconds_left(vm)
            if left < float("inf"):
                hurried[int(situation.home[vm])][left].append(vm)
        for home, by_time in hurried.items():
            cloud = situation.places[home].cloud
            ways = (k for k in range(len(situation.places)) if k != home)
            yield Wish(
                member=ConflictMember(
                    kind=ConflictKind.TIME,
                    text=f"the time that moves out of {cloud} take before the notice ends",
                    cloud=cloud,
                ),
                parts=tuple(part for k in ways for part in self._in_time(by_time, k)),
            )

    def groups(self) -> Iterator[Wish]:
        for rule in self.ruling.shared:
            limit = rule.constraint
            if isinstance(limit, CutLimit) and np.isinf(limit.penalty):
                pairs = list(limit.pairs)
                part = Crossing(
                    pairs=self.bill.pairs[pairs],
                    rates=self.bill.rates[pairs].sum(axis=1),
                    limit=limit.bytes_per_second,
                )
                member = ConflictMember(kind=ConflictKind.TRAFFIC, text=rule.text)
                yield Wish(member=member, parts=(part,))

    def prices(self) -> Iterator[Wish]:
        """VMs that nothing broken is about make room only where prices are known."""
        situation = self.situation
        idle = [vm for vm in self.at_will if vm not in self.ruling.involved]
        known = [place.cloud in situation.snapshot.prices for place in situation.places]
        for cloud in sorted({p.cloud for p in situation.places} - set(situation.snapshot.prices)):
            parts: list[Part] = []
            there = np.array([place.cloud == cloud for place in situation.places])
            for home in np.unique(situation.home[idle]):
                away = np.arange(len(known)) != home
                places = away if situation.places[home].cloud == cloud else there & away
                members = [vm for vm in idle if situation.home[vm] == home]
                parts.append(Bar(members=np.array(members), places=places))
            if parts:
                text = f"{cloud} tells no price, so that nothing makes room there or from there"
                member = ConflictMember(kind=ConflictKind.PRICE, text=text, cloud=cloud)
                yield Wish(member=member, parts=tuple(parts))

    def networks(self) -> Iterator[Wish]:
        """Nobody goes to where one of its networks isn't."""
        situation, snapshot = self.situation, self.situation.snapshot
        barred: dict[VirtualNetworkName, dict[CloudName, list[int]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for (vm, cloud), lacking in situation.missing_networks.items():
            for network in lacking if vm in self.at_will else ():
                barred[network][cloud].append(vm)
        for network, by_cloud in sorted(barred.items()):
            told = (
                (c, snapshot.clouds[c].networks) for c in snapshot.clouds if c in situation.clouds
            )
            have = (cloud for cloud, known in told if known is None or network in known)
            member = ConflictMember(kind=ConflictKind.NETWORK, text=reach_text(network, have))
            parts = (
                self._bar(vms, k)
                for k, place in enumerate(situation.places)
                if (vms := by_cloud.get(place.cloud))
            )
            yield Wish(member=member, parts=tuple(parts))

    def ruled_out(self, bans: Mapping[tuple[int, int], str]) -> Iterator[Wish]:
        situation = self.situation
        for (vm, place), why in sorted(bans.items()):
            cloud = situation.places[place].cloud
            text = f"{situation.vms[vm]} can't go to {cloud}: {why}"
            member = ConflictMember(kind=ConflictKind.ORDER, text=text, cloud=cloud)
            yield Wish(member=member, parts=(self._bar([vm], place),))

    def _capacity(self, place: int, text: str, part: Part) -> Wish:
        cloud = self.situation.places[place].cloud
        return Wish(
            member=ConflictMember(
                kind=ConflictKind.CAPACITY, text=f"the capacity of {cloud} ({text})", cloud=cloud
            ),
            parts=(part,),
        )

    def _reports(self, place: int) -> list[CapacityReport]:
        """Return what the hosts of a place have told that give an answer."""
        capacity = self.situation.snapshot.capacity
        told = (capacity.get(host.name) for host in self.situation.hosts_in(place))
        return [report for report in told if report is not None and not report.silent]

    def _unreported(self, place: int) -> Wish:
        hosts = {host.name for host in self.situation.hosts_in(place)}
        silent = hosts & self.situation.snapshot.silent_hosts()
        text = "no host gives an answer" if silent else "nobody reported it"
        comers = [vm for vm in self.at_will if self.situation.home[vm] != place]
        return self._capacity(place, text, self._bar(comers, place))

    def _too_small_hosts(self, place: int) -> Iterator[Wish]:
        situation = self.situation
        totals = [report.total for report in self._reports(place)]
        large = [
            vm
            for vm in self.at_will
            if situation.home[vm] != place
            and not any(total.covers(situation.needs(vm)) for total in totals)
        ]
        if large:
            text = f"no host is large enough for {named(situation, tuple(large))}"
            yield self._capacity(place, text, self._bar(large, place))

    def _in_time(self, by_time: Mapping[float, list[int]], place: int) -> Iterator[Part]:
        for left, vms in by_time.items():
            seconds = self.bill.seconds[vms, place]
            late = [vm for vm, takes in zip(vms, seconds, strict=True) if takes > left]
            yield self._bar(late, place)
            hurried = [
                vm
                for vm in vms
                if vm in self.ruling.must_leave
                and self.situation.evacuates(vm)
                and left < self.situation.settings.horizon_seconds
            ]
            if hurried:
                yield InTime(
                    members=np.array(hurried),
                    place=place,
                    seconds=self.bill.seconds[hurried, place],
                    limit=max(0.0, left),
                )

    def _bar(self, members: list[int], place: int) -> Bar:
        there: Booleans = np.arange(len(self.situation.places)) == place
        return Bar(members=np.array(members, dtype=np.int64), places=there)
