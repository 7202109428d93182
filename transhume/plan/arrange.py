"""Turns a decision into moves with hosts, and lets the schedule put them in order.

Owns what the schedule is told: who goes with whom and how urgently, which rules hold at every instant, what
VMs that talk cost while they are apart, and where a VM may be parked. What can't be packed or put in order
comes back by VM and place, each with why.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from transhume.knowledge.model import (
    SECONDS_PER_HOUR,
    CloudName,
    GroupId,
    HostName,
    Prediction,
    Resources,
    VmName,
)
from transhume.plan.constraints import Indices
from transhume.plan.decide import Decision
from transhume.plan.money import Bill
from transhume.plan.packing import pack
from transhume.plan.schedule import (
    AlwaysSpread,
    Berth,
    Chatter,
    Move,
    Schedule,
    Talk,
    Terms,
    schedule,
)
from transhume.plan.schedule.polish import Polish
from transhume.plan.schedule.splitting import split_dollars
from transhume.plan.situation import Situation
from transhume.policies.model import AnyOf, Forbid, Hold, Pin, Quota, Spread


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """A decision that can be carried out, if nothing in it is impossible."""

    schedule: Schedule
    impossible: Mapping[tuple[int, int], str]
    """What can't be done: VM, place and why."""
    split: Mapping[VmName, float]
    """Dollars, once, for traffic that crosses clouds only meanwhile."""
    detours: Mapping[VmName, float]
    """Dollars, once, that parking costs over the direct way."""
    predictions: tuple[Prediction, ...]
    """What each leg takes."""
    moves: tuple[Move, ...]
    """What was to be put in order."""
    terms: Terms
    """What had to be heeded."""

    @property
    def ways(self) -> frozenset[VmName]:
        """The VMs that move."""
        return frozenset(leg.move.vm for leg in self.schedule.legs)

    def beside(self, vm: VmName) -> float:
        """Return what a VM's move costs beside the move itself."""
        return self.split.get(vm, 0.0) + self.detours.get(vm, 0.0)


@dataclass(frozen=True, kw_only=True)
class Arranger:
    """Arranges the decisions of one situation."""

    situation: Situation
    bill: Bill

    def arrange(self, decision: Decision) -> Arrangement:
        """Give the movers hosts and an order."""
        situation, chosen = self.situation, decision.chosen
        packing = pack(situation, chosen, decision.mended)
        terms = self._terms(decision)
        moves = tuple(self._move(decision, vm, host) for vm, host in packing.host_of.items())
        order = schedule(moves, terms)
        impossible = self._homeless(decision, packing.homeless)
        for name, why in order.stuck.items() if not impossible else ():
            vm = situation.number[name]
            impossible[vm, int(chosen[vm])] = why
        return self._arrangement(decision, order, moves, terms, impossible)

    def _homeless(self, decision: Decision, homeless: Indices) -> dict[tuple[int, int], str]:
        """Return that VMs fit on no host, nor would those of their size that stay in their stead."""
        situation, chosen = self.situation, decision.chosen
        lacking: dict[Resources, set[int]] = {}
        for vm in homeless:
            lacking.setdefault(situation.needs(vm), set()).add(int(chosen[vm]))
        staying = (vm for vm in situation.governed if chosen[vm] == situation.home[vm])
        return {
            (vm, k): f"it has room in all, but on no single host of {situation.places[k].cloud}"
            for vm in (*homeless, *staying)
            for k in sorted(lacking.get(situation.needs(vm), ()))
            if k != situation.home[vm]
        }

    def polished(self, decision: Decision, arrangement: Arrangement) -> Arrangement:
        """Return the arrangement with the moves in a better order, where one is found; else as it is."""
        settings = self.situation.settings
        polish = Polish(most_moves=settings.most_polished_moves, effort=settings.polish_effort)
        terms = arrangement.terms
        order = polish.better(arrangement.schedule, arrangement.moves, terms)
        if order is arrangement.schedule:
            return arrangement
        return self._arrangement(decision, order, arrangement.moves, terms)

    def _terms(self, decision: Decision) -> Terms:
        situation = self.situation
        return Terms(
            free=situation.free,
            cloud_of={vm: situation.snapshot.cloud_of(vm) for vm in situation.vms},
            spreads=tuple(self._always_spread()),
            moves_per_link=situation.settings.moves_per_link,
            moves_per_host=situation.settings.moves_per_host,
            berths=lambda move: self._berths(decision, move),
            chatter=self._chatter(decision),
        )

    def _arrangement(
        self,
        decision: Decision,
        order: Schedule,
        moves: tuple[Move, ...],
        terms: Terms,
        impossible: Mapping[tuple[int, int], str] = MappingProxyType({}),
    ) -> Arrangement:
        return Arrangement(
            schedule=order,
            impossible=impossible,
            split=split_dollars(order.legs, terms.chatter, terms.cloud_of),
            detours=self._detours(decision, order),
            predictions=tuple(self._prediction(leg.move) for leg in order.legs),
            moves=moves,
            terms=terms,
        )

    def _prediction(self, move: Move) -> Prediction:
        vm = self.situation.number[move.vm]
        return self.bill.prediction_between(vm, move.source_cloud, move.destination_cloud)

    def _move(self, decision: Decision, vm: int, host: HostName) -> Move:
        situation = self.situation
        name = situation.vms[vm]
        hosts = situation.snapshot.hosts
        source = situation.snapshot.placement.host_of[name]
        place = int(decision.chosen[vm])
        group = situation.group_of.get(vm)
        mandatory = decision.mended[vm] != situation.home[vm]
        left = situation.seconds_left(vm) if mandatory else math.inf
        late = vm in decision.late
        split = any(
            mate in decision.late or decision.chosen[mate] != place
            for mate in situation.groups.get(group or GroupId(""), ())
        )
        return Move(
            vm=name,
            source=source,
            destination=host,
            source_cloud=hosts[source].cloud,
            destination_cloud=hosts[host].cloud,
            needs=situation.needs(vm),
            seconds=float(self.bill.seconds[vm, place]),
            unit=f"group {group}" if group is not None else f"vm {name}",
            urgency=(float(not mandatory), float(late), left, float(split)),
            ends_within=math.inf if late else left,
        )

    def _always_spread(self) -> list[AlwaysSpread]:
        found = []
        for policy in self.situation.policies:
            for rule in policy.rules:
                if isinstance(rule, Spread) and rule.hold is Hold.ALWAYS:
                    members = self.situation.governed_by(policy, rule.who)
                    if not any(self.situation.evacuates(vm) for vm in members):
                        names = frozenset(self.situation.vms[vm] for vm in members)
                        found.append(AlwaysSpread(vms=names, minimum=rule.minimum))
        return found

    def _chatter(self, decision: Decision) -> Chatter:
        """Return the pairs that talk and of which one moves at least."""
        situation, bill = self.situation, self.bill
        moved = decision.chosen != situation.home
        kept = np.flatnonzero(moved[bill.pairs].any(axis=1))
        return Chatter(
            talks=tuple(
                Talk(
                    one=situation.vms[one],
                    other=situation.vms[other],
                    bytes_per_second=(there, back),
                )
                for (one, other), (there, back) in zip(
                    bill.pairs[kept].tolist(), bill.rates[kept].tolist(), strict=True
                )
            ),
            dollars_per_byte={
                (one, other): float(bill.egress[a, b]) / SECONDS_PER_HOUR
                for a, one in enumerate(situation.clouds)
                for b, other in enumerate(situation.clouds)
            },
        )

    # parking

    def _berths(self, decision: Decision, move: Move) -> list[Berth]:
        situation = self.situation
        vm = situation.number[move.vm]
        direct = self._prediction(move).dollars
        found = []
        for k, place in enumerate(situation.places):
            if place.doomed or not self._may_wait_in(decision, vm, place.cloud):
                continue
            into = self.bill.prediction_between(vm, move.source_cloud, place.cloud)
            out = self.bill.prediction_between(vm, place.cloud, move.destination_cloud)
            found += [
                Berth(
                    host=host.name,
                    cloud=place.cloud,
                    seconds_in=into.seconds,
                    seconds_out=out.seconds,
                    dollars=into.dollars + out.dollars - direct,
                )
                for host in situation.hosts_in(k)
            ]
        return found

    def _may_wait_in(self, decision: Decision, vm: int, cloud: CloudName) -> bool:
        """Say whether rules let a VM be in a cloud on its way; a pin that it breaks at home can wait."""
        situation = self.situation
        name = situation.vms[vm]
        here = situation.places[situation.home[vm]].cloud
        if (name, cloud) in situation.heard.forbidden:
            return False
        if (vm, cloud) in situation.missing_networks:
            return False
        elective = decision.mended[vm] == situation.home[vm]
        if elective and cloud not in situation.snapshot.prices:
            return False
        for policy in situation.governing[name]:
            for rule in policy.rules:
                match rule:
                    case Quota(cloud=limited) if limited == cloud != here:
                        return False
                    case Forbid(who=who, clouds=clouds, hold=Hold.ALWAYS):
                        if cloud in clouds and who.matches(situation.snapshot.vms[name]):
                            return False
                    case AnyOf(who=who, clouds=allowed):
                        if cloud not in allowed and who.matches(situation.snapshot.vms[name]):
                            return False
                    case Pin(who=who, cloud=pinned):
                        if pinned == here != cloud and who.matches(situation.snapshot.vms[name]):
                            return False
        return True

    def _detours(self, decision: Decision, order: Schedule) -> dict[VmName, float]:
        spent: dict[VmName, float] = {}
        parked = {leg.move.vm for leg in order.legs if leg.makes_room_for is not None}
        for leg in order.legs:
            if leg.move.vm in parked:
                spent[leg.move.vm] = (
                    spent.get(leg.move.vm, 0.0) + self._prediction(leg.move).dollars
                )
        for name in spent:
            vm = self.situation.number[name]
            spent[name] -= float(self.bill.move[vm, decision.chosen[vm]])
        return spent
