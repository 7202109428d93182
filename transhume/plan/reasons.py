"""The reasons in a plan: why each VM goes where it goes, why others can't, why nothing is done at all.

Words only: every number comes from the bill, every rule from the ruling.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import BYTES_PER_GIB, Resources, VmName
from transhume.plan.budgets import binding_budget
from transhume.plan.constraints import Assignment, Indices, LinkTime, Terrain
from transhume.plan.decide import Decision, Obstacle
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.preferences import preferred
from transhume.plan.problem import Problem
from transhume.plan.rules import named
from transhume.quantities import format_dollars_per_hour, format_duration, format_rate


@dataclass(frozen=True, kw_only=True)
class Narrator:
    """Finds the words for a situation."""

    formulator: Formulator

    # why a VM goes

    def mandatory(self, vm: int, assignment: Assignment) -> str:
        """Return why a VM has to move."""
        situation, ruling = self.formulator.situation, self.formulator.ruling
        there = situation.places[assignment[vm]].cloud
        if vm in ruling.must_leave:
            group = situation.group_of.get(vm)
            mates = tuple(
                mate
                for mate in (situation.groups[group] if group is not None else ())
                if assignment[mate] == assignment[vm] and assignment[mate] != situation.home[mate]
            )
            who = f"group of {named(situation, mates)}: " if len(mates) > 1 else ""
            here = situation.places[situation.home[vm]].cloud
            where = there if there != here else f"another host of {there}"
            return f"{who}{ruling.must_leave[vm]}; {where} has room"
        for rule in ruling.shared:
            if rule.broken and vm in rule.members:
                return rule.text
        return "makes room for VMs that have to move"

    def elective(self, vm: int, bundle: Indices, before: Assignment, after: Assignment) -> str:
        """Return why it pays that a VM moves."""
        situation, bill = self.formulator.situation, self.formulator.bill
        there = situation.places[after[vm]].cloud
        here = situation.places[before[vm]].cloud
        mates = tuple(v for v in bundle if after[v] == after[vm] and before[v] != after[v])
        who = f"group of {named(situation, mates)} runs" if len(mates) > 1 else "it runs"
        saved = float(bill.savings(before, after)[list(mates)].sum())
        cost = bill.running_share(mates, before)
        share = f"{saved / cost:.0%}".replace("%", " %") if cost > 0 else ""
        wished = sum(
            float(bill.preference[v, before[v]] - bill.preference[v, after[v]]) for v in mates
        )
        if wished > saved / 2:
            return preferred(situation, vm, int(before[vm]), int(after[vm]))
        compute = sum(float(bill.compute[v, before[v]] - bill.compute[v, after[v]]) for v in mates)
        if compute < saved / 2:
            return self._rejoins(vm, mates, saved, before, after)
        now, then = bill.prices[here], bill.prices[there]
        asks = (now.dollars_per_vcpu_hour, then.dollars_per_vcpu_hour, "vCPU-hour")
        if asks[0] == asks[1]:
            asks = (now.dollars_per_gib_hour, then.dollars_per_gib_hour, "GiB-hour")
        return (
            f"{who} {share} cheaper in {there}: {here} asks {_dollars(asks[0])} per {asks[2]}, "
            f"{there} {_dollars(asks[1])}"
        )

    def _nearer(self, mates: Indices, before: Assignment, after: Assignment) -> float:
        """Return how much less the way between VMs and those they talk to weighs."""
        bill = self.formulator.bill
        theirs = np.isin(bill.pairs, mates).any(axis=1)
        return float((bill.distance(before) - bill.distance(after))[theirs].sum())

    def _rejoins(
        self, vm: int, mates: Indices, saved: float, before: Assignment, after: Assignment
    ) -> str:
        """Return which traffic stops crossing clouds, or has less far to go."""
        situation, bill = self.formulator.situation, self.formulator.bill
        here = situation.places[before[vm]].cloud
        there = situation.places[after[vm]].cloud
        met: dict[int, float] = defaultdict(float)
        for pair in np.flatnonzero((bill.pairs == vm).any(axis=1)):
            one, other = bill.pairs[pair].tolist()
            mate = other if one == vm else one
            joined = situation.cloud[after[mate]] == situation.cloud[after[vm]]
            was_apart = situation.cloud[before[mate]] != situation.cloud[before[vm]]
            if joined and was_apart:
                met[mate] += float(bill.rates[pair].sum())
        nearer = 0.0 if met else self._nearer(mates, before, after)
        if not met and nearer > saved / 2:
            worth = f"which {situation.latency_asker(vm)} weighs {format_dollars_per_hour(nearer)}"
            return f"it is nearer in {there} to those it talks to, {worth}"
        if not met:
            return f"less traffic is paid for with it in {there}: {format_dollars_per_hour(saved)} saved"
        return (
            f"joins {named(situation, tuple(sorted(met)))} in {there}: "
            f"{format_rate(sum(met.values()))} no longer cross between {here} and {there}, "
            f"{format_dollars_per_hour(saved)} saved"
        )

    # why a VM can't go

    def unplaced(self, decision: Decision) -> dict[int, str]:
        """Return the VMs that should move and can't (in time), each with why."""
        situation, ruling = self.formulator.situation, self.formulator.ruling
        problem = self.formulator.problem(decision.freedom)
        final = decision.chosen
        found = {}
        for vm, why in ruling.must_leave.items():
            if vm in decision.late:
                place = int(final[vm])
                found[vm] = f"{why}; {self._too_late(vm, place)}; it's tried last"
            elif final[vm] == situation.home[vm]:
                found[vm] = f"{why}; {self._hindrances(problem, decision, vm)}"
        return found | {
            vm: f"{text}, which can't be met"
            for vm, text in self._still_broken(final)
            if vm not in found
        }

    def _still_broken(self, final: Assignment) -> Iterator[tuple[int, str]]:
        situation, bill = self.formulator.situation, self.formulator.bill
        terrain = Terrain(
            home=situation.home, cloud=situation.cloud, pairs=bill.pairs, rates=bill.rates
        )
        for rule in self.formulator.ruling.shared:
            if rule.broken and rule.constraint.excess(terrain, final):
                yield from ((vm, rule.text) for vm in rule.members)

    def _hindrances(self, problem: Problem, decision: Decision, vm: int) -> str:
        situation = self.formulator.situation
        found = [
            self._hindrance(problem, decision, vm, k)
            for k, place in enumerate(situation.places)
            if k != situation.home[vm] and not place.doomed
        ]
        needs = f"it needs {amount_text(situation.needs(vm))}; "
        lacks = any(text.startswith(needs) for text in found)
        known = self.formulator.ruling.must_leave[vm]
        news = dict.fromkeys(text.removeprefix(needs) for text in found if text != known)
        return (needs if lacks else "") + ("; ".join(news) or "there is no other place")

    def _hindrance(self, problem: Problem, decision: Decision, vm: int, place: int) -> str:
        """Return what keeps a VM from going to a place that others have taken."""
        situation = self.formulator.situation
        cloud = situation.places[place].cloud
        why = self.formulator.why_not(vm, place, decision.freedom)
        if why:
            return why
        assignment = decision.chosen
        lack = self._lack(problem, vm, place, assignment)
        if lack:
            return lack
        trial = assignment.copy()
        trial[vm] = place
        for constraint in problem.constraints:
            if isinstance(constraint, LinkTime) and constraint.excess(problem.terrain, trial):
                return self._too_late(vm, place)
        for rule in self.formulator.ruling.shared:
            hard = np.isinf(rule.constraint.penalty)
            if hard and vm in rule.members and rule.constraint.excess(problem.terrain, trial):
                return rule.text
        return f"{cloud} is no better place under the policies"

    def _lack(self, problem: Problem, vm: int, place: int, assignment: Assignment) -> str:
        situation = self.formulator.situation
        there = sum(
            (situation.needs(int(v)) for v in np.flatnonzero(assignment == place)),
            start=Resources(vcpus=0, memory_bytes=0),
        )
        vcpus, memory = (int(amount) for amount in problem.capacity[place])
        free = Resources(vcpus=vcpus, memory_bytes=memory) - there
        need = situation.needs(vm)
        if free.covers(need):
            return ""
        cloud = situation.places[place].cloud
        if free.vcpus < need.vcpus:
            return f"it needs {amount_text(need)}; {cloud} has {max(0, free.vcpus)} free vCPUs"
        memory_free = memory_text(max(0, free.memory_bytes))
        return f"it needs {amount_text(need)}; {cloud} has {memory_free} of memory free"

    def _too_late(self, vm: int, place: int) -> str:
        situation, bill = self.formulator.situation, self.formulator.bill
        cloud = situation.places[place].cloud
        takes = format_duration(float(bill.seconds[vm, place]))
        left = format_duration(max(0.0, situation.seconds_left(vm)))
        return f"moving to {cloud} takes {takes} and the notice leaves {left} for all that share the way"

    # why nothing is done

    def nothing_pays(self) -> str:
        """Return why there is nothing to do where no limit is to blame."""
        situation = self.formulator.situation
        priceless = [c for c in situation.clouds if c not in situation.snapshot.prices]
        silent = f"; {', '.join(priceless)} told no price" if priceless else ""
        return f"no rule is broken, and no other placement is cheaper{silent}"

    def nobody_can(self, unplaced: Mapping[VmName, str]) -> str:
        """Return that VMs should move, none of which can."""
        first, why = next(iter(unplaced.items()))
        more = f" (and {len(unplaced) - 1} more)" if len(unplaced) > 1 else ""
        return f"{first}{more} should move and can't: {why}"

    def obstacle(self, obstacle: Obstacle, base: Assignment, saving: float) -> str:
        """Return what would be better, and what stands in the way."""
        situation = self.formulator.situation
        better = obstacle.better
        movers = tuple(int(vm) for vm in np.flatnonzero(better != base))
        bound: dict[str, list[int]] = defaultdict(list)
        for vm in movers:
            bound[situation.places[better[vm]].cloud].append(vm)
        ways = " and ".join(f"{named(situation, tuple(v))} to {c}" for c, v in bound.items())
        return (
            f"moving {ways} would save {format_dollars_per_hour(saving)}, but "
            f"{self._in_the_way(obstacle, movers)}"
        )

    def _in_the_way(self, obstacle: Obstacle, movers: Indices) -> str:
        situation, ruling = self.formulator.situation, self.formulator.ruling
        match obstacle.limit:
            case "payback":
                limit = format_duration(situation.payback_limit(movers))
                asker = situation.payback_asker(movers)
                return f"doesn't pay for itself within {limit} ({asker})"
            case "cool-down":
                resting = {vm: situation.cooling_until(vm) for vm in movers}
                vm, until = next((v, u) for v, u in resting.items() if u is not None)
                return (
                    f"{situation.vms[vm]} moved not long ago and rests until {until:%H:%M:%S} UTC "
                    f"({situation.cooldown_asker(vm)})"
                )
            case "budget":
                bill, better = self.formulator.bill, obstacle.better
                return f"{binding_budget(situation, bill, better, movers)}, leaves no room for it"
            case "capacity":
                return self._no_room(obstacle.better)
            case _:
                barred = (ruling.barred.get((vm, int(obstacle.better[vm]))) for vm in movers)
                texts = [text for text in barred if text] + [rule.text for rule in ruling.shared]
                return texts[0] if texts else "a rule stands in the way"

    def _no_room(self, better: Assignment) -> str:
        """Return which place lacks the room."""
        situation = self.formulator.situation
        problem = self.formulator.problem(Freedom(movable=frozenset()))
        for vm in np.flatnonzero(better != situation.home):
            before_it = better.copy()
            before_it[vm] = situation.home[vm]
            lack = self._lack(problem, int(vm), int(better[vm]), before_it)
            if lack:
                return lack.replace("it needs", f"{situation.vms[vm]} needs")
        return "there is no room for it"


def _dollars(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 0.1 or not amount else f"${amount:.2g}"


def amount_text(amount: Resources) -> str:
    """Return an amount of resources as a person says it."""
    plural = "" if amount.vcpus == 1 else "s"
    return f"{amount.vcpus} vCPU{plural} and {memory_text(amount.memory_bytes)}"


def memory_text(count: int) -> str:
    """Return an amount of memory in the binary units that memory is sold in."""
    if count >= BYTES_PER_GIB:
        return f"{count / BYTES_PER_GIB:.3g} GiB"
    return f"{count / (1 << 20):.3g} MiB"
