"""The gate: replays a plan's steps and says what they break. Shares no code with what made the plan.

Everything is read anew from snapshot and policies, one step after the other, in the slow and obvious way. A
plan that breaks anything is never handed out. Not asked here: whether a plan is cheap, or in time.

What may be: a rule that is broken before the plan may still be broken after it; `together`, `spread` and
`keep_together` give way where a notice takes one of their VMs away.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby, product

import numpy as np

from transhume.knowledge.model import (
    CloudName,
    HostName,
    MoveKind,
    PlanId,
    Snapshot,
    Step,
    StepResult,
    Vm,
    VmName,
)
from transhume.policies.extension import RuleFailed, ask
from transhume.policies.model import (
    AnyOf,
    Forbid,
    Hold,
    Pin,
    Policy,
    Python,
    Quota,
    Spread,
    Together,
)

Where = dict[VmName, HostName]


def find_faults(
    snapshot: Snapshot,
    policies: Sequence[Policy],
    steps: Sequence[Step],
    *,
    undoes: PlanId | None = None,
) -> tuple[str, ...]:
    """Return everything that carrying out the steps would break, in words; nothing for a good plan.

    What takes back the last move of a VM, made by the plan `undoes`, asks for no cool-down, and for no budget
    but those of the calendar.
    """
    replay = _Replay(snapshot, tuple(policies), tuple(steps), undoes)
    faults = [*replay.misnamed()]
    if faults:  # the rest would stumble over them
        return tuple(faults)
    faults += replay.unfit_destinations()
    faults += replay.forbidden_by_user_rules()
    faults += replay.too_full()
    faults += replay.not_spread_meanwhile()
    faults += replay.broken_at_the_end()
    faults += replay.too_eager()
    return tuple(faults)


@dataclass(slots=True)
class _Replay:
    snapshot: Snapshot
    policies: tuple[Policy, ...]
    steps: tuple[Step, ...]
    undoes: PlanId | None

    def misnamed(self) -> Iterator[str]:
        seen: set[VmName] = set()
        stage = 0
        for step in self.steps:
            hosts = self.snapshot.hosts
            if step.stage < stage:
                yield f"{step.id}: stage {step.stage} comes after stage {stage}"
            stage = step.stage
            if step.vm in seen:
                yield f"{step.vm} moves twice"
            seen.add(step.vm)
            if self.snapshot.placement.host_of.get(step.vm) != step.source:
                yield f"{step.vm} isn't on {step.source}"
            if step.source == step.destination:
                yield f"{step.vm} goes to where it is"
            if step.vm in self.snapshot.moving:
                yield f"{step.vm} is on its way already"
            if step.vm not in self.snapshot.vms or not self._policies_of(step.vm):
                yield f"{step.vm} is no policy's business"
            for host, cloud in (
                (step.source, step.source_cloud),
                (step.destination, step.destination_cloud),
            ):
                if host not in hosts or hosts[host].cloud != cloud:
                    yield f"{host} is no host of {cloud}"

    def unfit_destinations(self) -> Iterator[str]:
        for step in self.steps:
            if self._revoked(step.destination):
                yield f"{step.vm} goes to {step.destination}, which is under a notice"
            for policy in self._policies_of(step.vm):
                for rule in policy.rules:
                    if isinstance(rule, Pin | Forbid | AnyOf) and rule.who.matches(
                        self._vm(step.vm)
                    ):
                        if isinstance(rule, AnyOf) and step.destination_cloud not in rule.clouds:
                            yield f"{policy.name} wants {step.vm} in {' or '.join(rule.clouds)}"
                        if isinstance(rule, Pin) and rule.cloud != step.destination_cloud:
                            yield f"{policy.name} pins {step.vm} to {rule.cloud}"
                        if isinstance(rule, Forbid) and step.destination_cloud in rule.clouds:
                            yield f"{policy.name} forbids {step.destination_cloud} to {step.vm}"

    def forbidden_by_user_rules(self) -> Iterator[str]:
        going = {(step.vm, step.destination_cloud) for step in self.steps}
        for policy in self.policies:
            ours = tuple(self._vm(vm) for vm in self._start() if policy.governs(self._vm(vm)))
            movers = {vm for vm, _ in going} & {vm.name for vm in ours}
            for rule in policy.rules if movers else ():
                if isinstance(rule, Python):
                    try:
                        verdict = ask(rule.name, rule.rule, self.snapshot, ours)
                    except RuleFailed as error:
                        yield f"{', '.join(sorted(movers))} may not move: {error}"
                        continue
                    for vm, cloud in sorted(going & verdict.forbidden.keys()):
                        if vm in movers:
                            yield f"{policy.name} ({rule.name}) forbids {cloud} to {vm}"

    def too_full(self) -> Iterator[str]:
        """Within a stage nobody has left yet when everybody arrives."""
        vcpus, memory = {}, {}
        for host in self.snapshot.hosts:
            report = self.snapshot.capacity.get(host)
            there = [v for v, h in self.snapshot.placement.host_of.items() if h == host]
            known = [self._vm(v).needs for v in there if v in self.snapshot.vms]
            vcpus[host] = memory[host] = 0
            if report is not None:
                used = sum(n.vcpus for n in known), sum(n.memory_bytes for n in known)
                vcpus[host] = min(report.free.vcpus, report.total.vcpus - used[0])
                memory[host] = min(report.free.memory_bytes, report.total.memory_bytes - used[1])
        for number, stage in groupby(self.steps, key=lambda s: s.stage):
            arriving = list(stage)
            for step in arriving:
                vcpus[step.destination] -= self._vm(step.vm).needs.vcpus
                memory[step.destination] -= self._vm(step.vm).needs.memory_bytes
            for host in sorted({step.destination for step in arriving}):
                if vcpus[host] < 0 or memory[host] < 0:
                    yield f"stage {number}: {host} has no room for all that arrive"
            for step in arriving:
                vcpus[step.source] += self._vm(step.vm).needs.vcpus
                memory[step.source] += self._vm(step.vm).needs.memory_bytes

    def not_spread_meanwhile(self) -> Iterator[str]:
        """Try every state that a stage may pass through: each of its VMs still here, or there already."""
        rules = [
            (policy, rule, members)
            for policy in self.policies
            for rule in policy.rules
            if isinstance(rule, Spread) and rule.hold is Hold.ALWAYS
            for members in [self._members(policy, rule)]
            if members and not any(self._flees(vm) for vm in members)
        ]
        where = self._start()
        for number, stage in groupby(self.steps, key=lambda s: s.stage):
            moving = list(stage)
            for policy, rule, members in rules:
                wanted = min(rule.minimum, self._breadth(members, where))
                ours = [step for step in moving if step.vm in members]
                for arrived in product((False, True), repeat=len(ours)):
                    state = dict(where)
                    for step, there in zip(ours, arrived, strict=True):
                        state[step.vm] = step.destination if there else step.source
                    if self._breadth(members, state) < wanted:
                        yield f"stage {number}: {policy.name}'s spread doesn't hold meanwhile"
                        break
            where |= {step.vm: step.destination for step in moving}

    def broken_at_the_end(self) -> Iterator[str]:
        before = set(self._broken(self._start()))
        end = self._start() | {step.vm: step.destination for step in self.steps}
        yield from (fault for fault in self._broken(end) if fault not in before)

    def too_eager(self) -> Iterator[str]:
        elective = [step for step in self.steps if step.kind is MoveKind.ELECTIVE]
        done = [o for o in self.snapshot.outcomes if o.result is StepResult.DONE]
        for step in elective:
            for cloud in (step.source_cloud, step.destination_cloud):
                if cloud not in self.snapshot.prices:
                    yield f"{step.vm} moves for money, but {cloud} tells no price"
            for policy in self._policies_of(step.vm):
                pause = timedelta(seconds=policy.elective.cooldown_seconds)
                if self._takes_back(step):
                    continue
                if any(o.vm == step.vm and o.ended_at + pause > self.snapshot.at for o in done):
                    yield f"{step.vm} moved within the cool-down of {policy.name}"
        for policy in self.policies:
            ours = {vm for vm in self.snapshot.vms if policy in self._policies_of(vm)}
            yield from self._over_budget(
                policy, [step for step in elective if step.vm in ours], ours
            )

    def _over_budget(
        self, policy: Policy, elective: list[Step], ours: set[VmName]
    ) -> Iterator[str]:
        now = self.snapshot.at
        for budget in policy.elective.budgets if elective else ():
            if budget.hours is None and all(self._takes_back(step) for step in elective):
                continue
            opening = budget.hours.opening_at(now) if budget.hours else None
            since = opening.start if opening else now - timedelta(seconds=budget.per_seconds or 0)
            if budget.hours and opening is None:
                following = budget.hours.next_opening(now)
                takes = sum(step.prediction.seconds for step in elective)
                if (
                    following
                    and 0 in (budget.moves, budget.bytes, budget.dollars)
                    and now + timedelta(seconds=takes * 0.999 - 0.1) > following.start
                ):
                    yield f"{policy.name} lets nothing move from {following.start} on"
                continue
            before = [
                o
                for o in self.snapshot.outcomes
                if o.vm in ours and o.result is StepResult.DONE and o.ended_at > since
            ]
            if budget.moves is not None and len(before) + len(elective) > budget.moves:
                yield f"{policy.name} allows {budget.moves} moves, {len(before)} of them are spent"
            sent = sum((o.measured or o.predicted).bytes for o in before)
            sends = sum(step.prediction.bytes for step in elective)
            if budget.bytes is not None and sent + sends * 0.999 - 1 > max(budget.bytes, sent):
                yield f"{policy.name} allows {budget.bytes} bytes, {sent} of them are spent"
            paid = sum(o.predicted.dollars for o in before)
            pays = sum(step.prediction.dollars for step in elective)
            if budget.dollars is not None and paid + pays * 0.999 - 1e-9 > max(
                budget.dollars, paid
            ):
                yield f"{policy.name} allows {budget.dollars} dollars, {paid} of them are spent"

    def _takes_back(self, step: Step) -> bool:
        done = [
            o for o in self.snapshot.outcomes if o.vm == step.vm and o.result is StepResult.DONE
        ]
        last = max(done, key=lambda o: o.ended_at, default=None)
        return (
            self.undoes is not None
            and last is not None
            and last.plan == self.undoes
            and self._cloud(last.source) == step.destination_cloud
        )

    # what is read anew

    def _vm(self, name: VmName) -> Vm:
        return self.snapshot.vms[name]

    def _policies_of(self, vm: VmName) -> list[Policy]:
        return [p for p in self.policies if p.governs(self._vm(vm))]

    def _start(self) -> Where:
        placed = self.snapshot.placement.host_of.items()
        return {v: h for v, h in placed if v in self.snapshot.vms and h in self.snapshot.hosts}

    def _members(self, policy: Policy, rule: Spread | Together) -> list[VmName]:
        return [
            vm
            for vm in self._start()
            if policy.governs(self._vm(vm)) and rule.who.matches(self._vm(vm))
        ]

    def _cloud(self, host: HostName) -> CloudName:
        return self.snapshot.hosts[host].cloud

    def _breadth(self, members: Sequence[VmName], where: Where) -> int:
        return len({self._cloud(where[vm]) for vm in members})

    def _revoked(self, host: HostName) -> bool:
        return any(
            not notice.withdrawn
            and notice.cloud == self._cloud(host)
            and notice.host in (None, host)
            for notice in self.snapshot.notices
        )

    def _flees(self, vm: VmName) -> bool:
        """Say whether a notice makes the VM leave."""
        return (
            self._revoked(self._start()[vm])
            and vm not in self.snapshot.moving
            and any(p.availability.evacuate_on_notice for p in self._policies_of(vm))
        )

    def _broken(self, where: Where) -> Iterator[str]:
        """Return what doesn't hold in a placement."""
        for policy in self.policies:
            for number, rule in enumerate(policy.rules):
                name = f"{policy.name}, rule {number + 1}"
                if isinstance(rule, Quota):
                    there = [
                        v
                        for v, host in where.items()
                        if policy.governs(self._vm(v)) and self._cloud(host) == rule.cloud
                    ]
                    if len(there) > rule.vms:
                        yield f"{name}: {rule.cloud} is over its quota"
                elif isinstance(rule, Spread | Together):
                    members = self._members(policy, rule)
                    if not members or any(self._flees(vm) for vm in members):
                        continue
                    breadth = self._breadth(members, where)
                    if isinstance(rule, Together) and breadth > 1:
                        yield f"{name}: not together"
                    if isinstance(rule, Spread) and breadth < rule.minimum:
                        yield f"{name}: not spread"
            yield from self._split_groups(policy, where)

    def _split_groups(self, policy: Policy, where: Where) -> Iterator[str]:
        matrix = self.snapshot.matrix
        if policy.keep_together is None or matrix is None:
            return
        at = {vm: i for i, vm in enumerate(matrix.vms)}
        for group in self.snapshot.groups:
            ours = [v for v in group.vms if v in where and v in at and policy.governs(self._vm(v))]
            if any(self._flees(vm) for vm in ours):
                continue
            cloud_of = {at[vm]: self._cloud(where[vm]) for vm in ours}
            rows = list(cloud_of)
            within = np.isin(matrix.source, rows) & np.isin(matrix.destination, rows)
            columns = (matrix.source, matrix.destination, matrix.bytes)
            entries = zip(*(column[within].tolist() for column in columns), strict=True)
            crossing = (sent for i, j, sent in entries if cloud_of[i] != cloud_of[j])
            cut = sum(crossing) / max(matrix.seconds, 1e-9)
            if cut > policy.keep_together.cut_above_bytes_per_second * (1 + 1e-6) + 1e-3:
                yield f"{policy.name}: the group {group.id} is split"
