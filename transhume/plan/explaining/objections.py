"""What stands against VMs' being elsewhere than a decision puts them: rules, room, time, limits on moves.

Owns the order in which objections count, and which of them a person is told. They are found one placement at a
time, with all other VMs where the decision has them, so that one alone says what would have to give way.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from transhume.knowledge.model import (
    NOTHING,
    Hindrance,
    HostName,
    Resources,
    VirtualNetworkName,
    total,
)
from transhume.plan.constraints import AtLeastClouds, AtMost, CutLimit, Indices, MoveLimit, Terrain
from transhume.plan.decide import Decision
from transhume.plan.explaining.room import fit, lacking_room, no_debt, room_text
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.networks import lack_text, network_text, shared_lack_text
from transhume.plan.rules import SharedRule, named
from transhume.policies.model import MoveBudget, Policy
from transhume.policies.summary import budget_text
from transhume.quantities import format_duration

UNFIT = ("nobody reported the capacity", "no host of")
"""How a ruling begins that bars a cloud for what it is, rather than for a policy's rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Something that stands against a placement."""

    kind: Hindrance
    about: str
    """The cloud or rule that would have to give way."""
    text: str
    lacking: Resources = NOTHING
    """For want of room: how much is missing."""


@dataclass(frozen=True, kw_only=True)
class Objections:
    """Finds what stands against other placements than the one decided."""

    formulator: Formulator
    decision: Decision
    free: Mapping[HostName, Resources]
    """What each host could still take once the decision is carried out."""

    def against(self, unit: Indices, place: int) -> list[Objection]:
        """Return what stands against a unit's being in a place, the weightiest first."""
        situation = self.formulator.situation
        back = [vm for vm in unit if situation.home[vm] == place]
        forth = tuple(vm for vm in unit if situation.home[vm] != place)
        elective = tuple(
            vm
            for vm in forth
            if self.decision.chosen[vm] == situation.home[vm]
            and vm not in self.formulator.ruling.must_leave
        )
        found = [
            *self._demands(back),
            *self._networks(forth, place),
            *self._personal(forth, place),
            *self._rest(elective),
            *self._shared(unit, place),
            *self._room(unit, place),
            *self._time(forth, place),
            *self._budgets(elective),
            *self._gain(elective),
        ]
        return list({(each.kind, each.about): each for each in reversed(found)}.values())[::-1]

    # one kind after the other

    def _demands(self, back: Iterable[int]) -> Iterator[Objection]:
        for vm in back:
            why = self.formulator.ruling.must_leave.get(vm)
            if why is not None:
                evacuated = self.formulator.situation.evacuates(vm)
                kind = Hindrance.CLOUD if evacuated else Hindrance.RULE
                yield Objection(kind=kind, about=why, text=why)

    def _networks(self, forth: Indices, place: int) -> Iterator[Objection]:
        situation, cloud = self.formulator.situation, self.formulator.situation.places[place].cloud
        lacking: dict[VirtualNetworkName, list[int]] = defaultdict(list)
        for vm in forth:
            for network in situation.missing_networks.get((vm, cloud), ()):
                lacking[network].append(vm)
        for network, vms in lacking.items():
            names = named(situation, tuple(vms))
            text = (
                lack_text(cloud, (network,))
                if len(forth) == 1
                else shared_lack_text(cloud, network, names, many=len(vms) > 1)
            )
            about = f"{network_text(network)} in {cloud}"
            yield Objection(kind=Hindrance.NETWORK, about=about, text=text)

    def _personal(self, forth: Indices, place: int) -> Iterator[Objection]:
        situation, ruling = self.formulator.situation, self.formulator.ruling
        cloud = str(situation.places[place].cloud)
        for vm in forth:
            why = self.formulator.why_not(vm, place, self._freedom)
            missing = situation.missing_networks.get((vm, situation.places[place].cloud))
            if not why or (missing and why == lack_text(situation.places[place].cloud, missing)):
                continue
            if (vm, place) in ruling.barred:
                unfit = situation.places[place].doomed or why.startswith(UNFIT)
                kind = Hindrance.CLOUD if unfit else Hindrance.RULE
                yield Objection(kind=kind, about=why, text=why)
            elif (vm, place) in self._freedom.bans:
                yield Objection(kind=Hindrance.ORDER, about=cloud, text=why)
            elif why.endswith("tells no price"):
                yield Objection(kind=Hindrance.PRICE, about=cloud, text=why)
            else:
                yield Objection(kind=Hindrance.TIME, about=cloud, text=why)

    def _rest(self, elective: Indices) -> Iterator[Objection]:
        situation = self.formulator.situation
        on_their_way = tuple(
            vm for vm in elective if situation.vms[vm] in situation.snapshot.moving
        )
        if on_their_way:
            names = named(situation, on_their_way)
            verb = "is" if len(on_their_way) == 1 else "are"
            text = f"{names} {verb} on the way already"
            yield Objection(kind=Hindrance.TRANSIT, about=names, text=text)
        unreached = tuple(vm for vm in elective if vm in situation.out_of_reach)
        if unreached:
            names = named(situation, unreached)
            text = f"the host of {names} gives no answer"
            yield Objection(kind=Hindrance.CLOUD, about=names, text=text)
        found = {vm: situation.cooling_until(vm) for vm in elective}
        resting = {vm: until for vm, until in found.items() if until is not None}
        if resting:
            names, until = named(situation, tuple(resting)), max(resting.values())
            verb = "rests" if len(resting) == 1 else "rest"
            text = f"{names} moved not long ago and {verb} until {until:%H:%M:%S} UTC"
            yield Objection(kind=Hindrance.REST, about=names, text=text)

    def _shared(self, unit: Indices, place: int) -> Iterator[Objection]:
        rules = {id(rule): rule for vm in unit for rule in self._rules_of.get(vm, ())}
        if not rules:
            return
        trial = self.decision.chosen.copy()
        trial[list(unit)] = place
        for rule in rules.values():
            now = rule.constraint.excess(self._terrain, self.decision.chosen)
            if rule.constraint.excess(self._terrain, trial) > now + 1e-9:
                yield Objection(kind=kind_of(rule), about=rule.text, text=rule.text)

    def _room(self, unit: Indices, place: int) -> Iterator[Objection]:
        situation = self.formulator.situation
        needs = {vm: situation.needs(vm) for vm in unit if self.decision.chosen[vm] != place}
        if all(situation.home[vm] == place for vm in needs):
            wanted: dict[HostName, Resources] = defaultdict(lambda: NOTHING)
            for vm, need in needs.items():
                wanted[self._host(vm)] += need
            lacking = total(no_debt(n - self.free[host]) for host, n in wanted.items())
            hosts = list(wanted)
        else:
            hosts = self._hosts[place]
            if fit(needs.values(), {host: self.free[host] for host in hosts}):
                return
            lacking = lacking_room(list(needs.values()), [self.free[host] for host in hosts])
        if lacking == NOTHING:
            return
        cloud = situation.places[place].cloud
        free = total(no_debt(self.free[host]) for host in hosts)
        text = room_text(list(needs.values()), cloud, free)
        yield Objection(kind=Hindrance.ROOM, about=cloud, text=text, lacking=lacking)

    def _time(self, forth: Indices, place: int) -> Iterator[Objection]:
        """Object where those that flee the same notice by the same way take all the time there is."""
        situation, bill = self.formulator.situation, self.formulator.bill
        hurried = [
            vm for vm in forth if situation.evacuates(vm) and self.decision.chosen[vm] != place
        ]
        for vm in hurried[:1]:
            busy = self._busy.get((int(situation.home[vm]), place), 0.0)
            busy += sum(float(bill.seconds[each, place]) for each in hurried)
            left = situation.seconds_left(vm)
            if busy > left < situation.settings.horizon_seconds:
                cloud = situation.places[place].cloud
                text = (
                    f"with those that go to {cloud} already it takes {format_duration(busy)}, and "
                    f"the notice leaves {format_duration(max(0.0, left))}"
                )
                yield Objection(kind=Hindrance.TIME, about=cloud, text=text)

    def _budgets(self, elective: Indices) -> Iterator[Objection]:
        for about, left, members in self._move_limits:
            if len(members.intersection(elective)) > left:
                text = f"the budget of {about} leaves no room for it"
                yield Objection(kind=Hindrance.BUDGET, about=about, text=text)

    def _gain(self, elective: Indices) -> Iterator[Objection]:
        for refusal in self.decision.refusals if elective else ():
            if not refusal.vms.isdisjoint(elective):
                yield Objection(kind=Hindrance.GAIN, about=refusal.why, text=refusal.why)
                return

    # what they look at

    def _host(self, vm: int) -> HostName:
        situation = self.formulator.situation
        return situation.snapshot.placement.host_of[situation.vms[vm]]

    @cached_property
    def _freedom(self) -> Freedom:
        situation, mended = self.formulator.situation, self.decision.mended
        required = {vm for vm in situation.governed if mended[vm] != situation.home[vm]}
        return Freedom(
            movable=frozenset(situation.governed),
            required=frozenset(required | set(self.formulator.ruling.must_leave)),
            bans=self.decision.freedom.bans,
            in_time=not self.decision.late,
        )

    @cached_property
    def _terrain(self) -> Terrain:
        situation, bill = self.formulator.situation, self.formulator.bill
        return Terrain(
            home=situation.home, cloud=situation.cloud, pairs=bill.pairs, rates=bill.rates
        )

    @cached_property
    def _rules_of(self) -> Mapping[int, list[SharedRule]]:
        found: dict[int, list[SharedRule]] = defaultdict(list)
        for rule in self.formulator.ruling.shared:
            members = rule.members
            if isinstance(rule.constraint, CutLimit):
                ends = self.formulator.bill.pairs[list(rule.constraint.pairs)]
                members = tuple({int(vm) for vm in ends.ravel()})
            for vm in members:
                found[vm].append(rule)
        return found

    @cached_property
    def _hosts(self) -> list[list[HostName]]:
        situation = self.formulator.situation
        return [[host.name for host in situation.hosts_in(k)] for k in range(len(situation.places))]

    @cached_property
    def _busy(self) -> Mapping[tuple[int, int], float]:
        """How long the ways are taken by those that flee, by the places at both ends."""
        situation, chosen = self.formulator.situation, self.decision.chosen
        found: dict[tuple[int, int], float] = defaultdict(float)
        for vm in self.formulator.ruling.must_leave:
            if chosen[vm] != situation.home[vm] and situation.evacuates(vm):
                way = int(situation.home[vm]), int(chosen[vm])
                found[way] += float(self.formulator.bill.seconds[vm, chosen[vm]])
        return found

    @cached_property
    def _move_limits(self) -> list[tuple[str, int, frozenset[int]]]:
        """By budget: what it's called, how many moves are left, and of whom."""
        home, chosen = self.formulator.situation.home, self.decision.chosen
        found = []
        for policy, budget, limit in self.formulator.budget_limits(self._freedom):
            if not isinstance(limit, MoveLimit):
                continue
            members = list(limit.members)
            left = limit.limit - int((chosen[members] != home[members]).sum())
            found.append((budget_name(policy, budget), left, frozenset(members)))
        return found


def budget_name(policy: Policy, budget: MoveBudget) -> str:
    """Return how a person would name a budget."""
    return f"{budget_text(budget)} of policy {policy.name}"


def kind_of(rule: SharedRule) -> Hindrance:
    """Return what kind of objection a broken rule is."""
    match rule.constraint:
        case AtMost():
            return Hindrance.QUOTA
        case AtLeastClouds():
            return Hindrance.SPREAD
        case CutLimit():
            return Hindrance.KEEP_TOGETHER
        case _:
            return Hindrance.TOGETHER
