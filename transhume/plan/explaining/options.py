"""Where else VMs could be than a decision puts them: each other place weighed, with what stands against it.

Owns which VMs are weighed as one. A VM is weighed by itself and with those that go, or would go, with it for
one reason: its bundle, its measured group, or those that a better placement moves together.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from transhume.knowledge.model import Alternative, CloudName, Hindrance, HostName, Resources
from transhume.plan.constraints import Assignment, Indices
from transhume.plan.decide import Decision
from transhume.plan.explaining.limits import LEAST_SAVING
from transhume.plan.explaining.objections import Objection, Objections
from transhume.plan.explaining.weighing import Weighing
from transhume.plan.formulate import Formulator
from transhume.plan.judge import Judge
from transhume.plan.money import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A unit's other place, weighed."""

    unit: Indices
    place: int
    dollars_per_hour: float
    """By how much dearer than the decision, as far as prices are known."""
    objections: tuple[Objection, ...]
    alternative: Alternative
    """The same for a person."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Weighs the other places of VMs."""

    formulator: Formulator
    judge: Judge
    decision: Decision
    weighing: Weighing
    free: Mapping[HostName, Resources]
    """What each host could still take once the decision is carried out."""
    better: Assignment | None
    """A placement that a limit forbids."""

    def of(self, vm: int) -> list[Option]:
        """Return a VM's other places, alone and with its unit, the cheapest first."""
        units = dict.fromkeys(((vm,), self.unit_of[vm]))
        return sorted(
            (option for unit in units for option in self._of_unit(unit)),
            key=lambda each: (
                each.alternative.dollars_per_hour is None,
                each.dollars_per_hour,
                len(each.unit),
                each.place,
            ),
        )

    def cheapest(self, vm: int) -> float:
        """Return by how much dearer (below zero: cheaper) a VM's cheapest other place is, barred or not."""
        units = {(vm,), self.unit_of[vm]}
        return min(float(self._changes[unit].min(initial=0.0)) for unit in units)

    @cached_property
    def unit_of(self) -> Mapping[int, Indices]:
        """By VM that a policy is about: those that go, or would go, with it for one reason."""
        situation, decision = self.formulator.situation, self.decision
        home, chosen = situation.home, decision.chosen
        better = chosen if self.better is None else self.better
        units: dict[int, Indices] = {vm: (vm,) for vm in situation.governed}
        staying = {vm for vm in units if chosen[vm] == home[vm]}
        found: list[Iterable[int]] = [
            *(staying.intersection(members) for members in situation.groups.values()),
            *(staying.intersection(each.vms) for each in self.judge.bundles(chosen, better)),
            *(each.vms for each in self.judge.bundles(home, chosen)),
        ]
        for members in found:
            parts: dict[tuple[int, ...], list[int]] = {}
            for vm in sorted(members):
                way = tuple(int(a[vm]) for a in (home, decision.mended, chosen, better))
                parts.setdefault(way, []).append(vm)
            units |= {vm: tuple(part) for part in parts.values() for vm in part}
        return units

    @cached_property
    def _changes(self) -> Mapping[Indices, Table]:
        """By unit, those of one VM included: by how much it's dearer elsewhere, by place."""
        alone: list[Indices] = [(vm,) for vm in self.formulator.situation.governed]
        units = list(dict.fromkeys([*alone, *self.unit_of.values()]))
        return dict(zip(units, self.weighing.changes(units), strict=True))

    def _of_unit(self, unit: Indices) -> list[Option]:
        if unit not in self._known:
            self._known[unit] = list(self._weigh(unit))
        return self._known[unit]

    @cached_property
    def _known(self) -> dict[Indices, list[Option]]:
        return {}

    def _weigh(self, unit: Indices) -> Iterator[Option]:
        situation = self.formulator.situation
        home, decided = int(situation.home[unit[0]]), int(self.decision.chosen[unit[0]])
        for k, place in enumerate(situation.places):
            if k == decided or (place.doomed and k != home):
                continue
            dearer = float(self._changes[unit][k])
            objections = self._objections.against(unit, k)
            if not objections and dearer < -LEAST_SAVING:
                objections = [self._overlooked(place.cloud)]
            yield Option(
                unit=unit,
                place=k,
                dollars_per_hour=dearer,
                objections=tuple(objections),
                alternative=Alternative(
                    cloud=place.cloud,
                    stays=k == home,
                    alone=len(unit) == 1,
                    dollars_per_hour=dearer if self._prices_known(decided, k) else None,
                    barred="; ".join(each.text for each in objections[:2]),
                    hindrances=tuple(each.kind for each in objections),
                ),
            )

    def _prices_known(self, decided: int, place: int) -> bool:
        situation = self.formulator.situation
        clouds = {situation.places[k].cloud for k in (decided, place)}
        return len(clouds) == 1 or clouds <= situation.snapshot.prices.keys()

    def _overlooked(self, cloud: CloudName) -> Objection:
        """Return that nothing we know of is in the way: the search missed it, or weighed it with others."""
        text = (
            "it goes with other changes that don't pay"
            if self.decision.optimal
            else "the search for the best plan didn't come across it"
        )
        return Objection(kind=Hindrance.SEARCH, about=cloud, text=text)

    @cached_property
    def _objections(self) -> Objections:
        return Objections(formulator=self.formulator, decision=self.decision, free=self.free)
