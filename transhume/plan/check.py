"""The gate: replays a plan's steps and says what they break. Shares no code with what made the plan.

Everything is read anew from snapshot and policies, one step after the other, in the slow and obvious way. A
plan that breaks anything is never handed out. What must hold at every instant is in `check_meanwhile`. Not
asked here: whether a plan is cheap.

What may be: a rule that is broken before the plan may still be broken after it; `together`, `spread` and
`keep_together` give way where a notice takes one of their VMs away. A VM may be parked on its way: the two
steps are one move. A pin that it breaks where it is may wait until it has arrived, and so may what is forbidden
at the end only; nothing else may.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np

from transhume.knowledge.model import (
    NOTHING,
    CloudName,
    HostName,
    MoveKind,
    PlanId,
    Resources,
    Snapshot,
    Step,
    StepResult,
    Vm,
    VmName,
)
from transhume.plan.check_meanwhile import (
    least_breadth,
    misordered,
    overfull,
    sure_before,
    too_late,
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
    faults += replay.beyond_their_networks()
    faults += replay.forbidden_by_user_rules()
    faults += replay.too_full()
    faults += replay.not_spread_meanwhile()
    faults += replay.parked_over_quota()
    faults += too_late(snapshot, replay.steps)
    faults += replay.broken_at_the_end()
    faults += replay.too_eager()
    return tuple(faults)


@dataclass(frozen=True)
class _Replay:
    snapshot: Snapshot
    policies: tuple[Policy, ...]
    steps: tuple[Step, ...]
    undoes: PlanId | None

    @cached_property
    def sure(self) -> list[int]:
        """What is sure to have been done before each step."""
        return sure_before(self.steps)

    @cached_property
    def parking(self) -> frozenset[int]:
        """The steps whose VM goes on in a later one."""
        last = {step.vm: number for number, step in enumerate(self.steps)}
        return frozenset(n for n, step in enumerate(self.steps) if last[step.vm] != n)

    def misnamed(self) -> Iterator[str]:
        yield from misordered(self.steps)
        where = dict(self.snapshot.placement.host_of)
        before: dict[VmName, list[Step]] = {}
        for step in self.steps:
            hosts = self.snapshot.hosts
            earlier = before.setdefault(step.vm, [])
            if earlier and (len(earlier) > 1 or where[step.vm] != step.source):
                yield f"{step.vm} moves twice, and not by way of where it was parked"
            elif earlier and earlier[0].id not in step.relies_on:
                yield f"{step.vm} goes on without having been parked"
            elif where.get(step.vm) != step.source:
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
            earlier.append(step)
            where[step.vm] = step.destination

    def unfit_destinations(self) -> Iterator[str]:
        for number, step in enumerate(self.steps):
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
                            if number in self.parking and rule.cloud != step.source_cloud:
                                continue
                            yield f"{policy.name} pins {step.vm} to {rule.cloud}"
                        if isinstance(rule, Forbid) and step.destination_cloud in rule.clouds:
                            if number in self.parking and rule.hold is Hold.AT_END:
                                continue
                            yield f"{policy.name} forbids {step.destination_cloud} to {step.vm}"

    def beyond_their_networks(self) -> Iterator[str]:
        for step in self.steps:
            there = self.snapshot.clouds.get(step.destination_cloud)
            if step.source_cloud == step.destination_cloud or there is None:
                continue
            for interface in self._vm(step.vm).interfaces:
                network = interface.network
                if network and there.networks is not None and network not in there.networks:
                    yield f"{step.vm} goes to {there.name}, which doesn't have its network {network}"

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
        needs = {vm: self._vm(vm).needs for vm in {step.vm for step in self.steps}}
        yield from overfull(self.steps, self.sure, self._free(), needs)

    def _free(self) -> dict[HostName, Resources]:
        """Return what each host could take before the first step."""
        used: dict[HostName, Resources] = {}
        for vm, host in self.snapshot.placement.host_of.items():
            if vm in self.snapshot.vms:
                used[host] = used.get(host, NOTHING) + self._vm(vm).needs
        free = {}
        for host in self.snapshot.hosts:
            report = self.snapshot.capacity.get(host)
            free[host] = NOTHING
            if report is not None and report.silent:
                free[host] = NOTHING - used.get(host, NOTHING)
            elif report is not None:
                left = report.total - used.get(host, NOTHING)
                free[host] = Resources(
                    vcpus=min(report.free.vcpus, left.vcpus),
                    memory_bytes=min(report.free.memory_bytes, left.memory_bytes),
                )
        return free

    def not_spread_meanwhile(self) -> Iterator[str]:
        home = {vm: self._cloud(host) for vm, host in self._start().items()}
        for policy in self.policies:
            for rule in policy.rules:
                if not isinstance(rule, Spread) or rule.hold is not Hold.ALWAYS:
                    continue
                members = self._members(policy, rule)
                if not members or any(self._flees(vm) for vm in members):
                    continue
                wanted = min(rule.minimum, len({home[vm] for vm in members}))
                for number, step in enumerate(self.steps):
                    if step.vm in members and wanted > least_breadth(
                        number, self.steps, self.sure, members, home
                    ):
                        yield f"stage {step.stage}: {policy.name}'s spread doesn't hold meanwhile"

    def parked_over_quota(self) -> Iterator[str]:
        """Count whom a cloud may hold when a VM is parked there, as `check_meanwhile` does for hosts."""
        for number in sorted(self.parking):
            parked = self.steps[number]
            there = parked.destination_cloud
            for policy in self._policies_of(parked.vm) if there != parked.source_cloud else ():
                limits = [r.vms for r in policy.rules if isinstance(r, Quota) and r.cloud == there]
                ours = [v for v in self._start() if policy.governs(self._vm(v))]
                count = sum(self._cloud(self._start()[vm]) == there for vm in ours)
                for n, step in enumerate(self.steps[: number + 1]):
                    count += step.vm in ours and step.destination_cloud == there
                    gone = self.sure[number] >> n & 1 and step.source_cloud == there
                    count -= step.vm in ours and gone
                if limits and count > min(limits):
                    yield f"{parked.vm} is parked in {there}, which is over {policy.name}'s quota"

    def broken_at_the_end(self) -> Iterator[str]:
        before = set(self._broken(self._start()))
        end = self._start() | {step.vm: step.destination for step in self.steps}
        yield from (fault for fault in self._broken(end) if fault not in before)

    def too_eager(self) -> Iterator[str]:
        """Ask what limits elective moves; the two steps of a VM that is parked are one move."""
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
                if o.vm in ours and o.result is not StepResult.SKIPPED and o.ended_at > since
            ]
            spent = len({(o.plan, o.vm) for o in before})
            if budget.moves is not None and spent + len({s.vm for s in elective}) > budget.moves:
                yield f"{policy.name} allows {budget.moves} moves, {spent} of them are spent"
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
        if self.undoes is None or last is None or last.plan != self.undoes:
            return False
        first = min((o for o in done if o.plan == self.undoes), key=lambda o: o.ended_at)
        return self._cloud(first.source) == step.destination_cloud

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
