"""A live job at one instant: what is known of its VMs, clouds and prices, in the words of deadline policies.

The VMs of a policy are the job, revocable clouds are its zones, and the cheapest of the others is on demand.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transhume.knowledge.model import CloudName, HostName, Snapshot, Vm, total
from transhume.plan.deadline.situation import (
    ON_DEMAND,
    Idle,
    Market,
    Spot,
    Whereabouts,
    Zone,
    ZoneName,
)
from transhume.plan.estimate import Estimator
from transhume.plan.settings import PlannerSettings
from transhume.policies.model import DeadlineGoal, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A job at one instant."""

    market: Market
    running: Whereabouts
    available: frozenset[ZoneName]
    in_use: frozenset[CloudName]
    """The revocable clouds in which some of its VMs run."""
    work_left_seconds: float
    time_left_seconds: float
    changeover_seconds: float
    on_the_way: bool
    """Some of its VMs are moving: what they run on is known when they have arrived."""


def look(
    snapshot: Snapshot, policy: Policy, policies: Sequence[Policy], settings: PlannerSettings
) -> Look | None:
    """Return how a policy's job stands; None where there is nothing to decide, or no price to do it by.

    Args:
        snapshot: what is known.
        policy: whose deadline it is.
        policies: all that are in force: they say whose disks moves copy.
        settings: what is assumed.
    """
    goal = policy.deadline
    scene = _Scene.of(snapshot, policy)
    market = scene.market()
    if goal is None or not scene.vms or market is None:
        return None
    work_left = goal.work_seconds * (1.0 - snapshot.share_done(goal.progress_job))
    time_left = (goal.at - snapshot.at).total_seconds()
    if work_left <= 0 or time_left <= 0:
        return None
    running = scene.running()
    there = (z.name for z in market.zones if running == Spot(z.name) or scene.takes(z.name))
    return Look(
        market=market,
        running=running,
        available=frozenset(there),
        in_use=scene.revocable & {snapshot.cloud_of(vm.name) for vm in scene.vms},
        work_left_seconds=work_left,
        time_left_seconds=time_left,
        changeover_seconds=scene.changeover_seconds(goal, policies, settings),
        on_the_way=any(vm.name in snapshot.moving for vm in scene.vms),
    )


def revocable_clouds(snapshot: Snapshot) -> frozenset[CloudName]:
    """Return the clouds whose machines may be taken back at any time."""
    return frozenset(name for name, cloud in snapshot.clouds.items() if cloud.revocable)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """The VMs of one policy, and what is around them."""

    snapshot: Snapshot
    vms: tuple[Vm, ...]
    revocable: frozenset[CloudName]
    doomed: frozenset[HostName]
    """Hosts that a notice says will be gone."""

    @classmethod
    def of(cls, snapshot: Snapshot, policy: Policy) -> "_Scene":
        host_of = snapshot.placement.host_of
        return cls(
            snapshot=snapshot,
            vms=tuple(
                vm
                for name, vm in snapshot.vms.items()
                if policy.governs(vm) and host_of.get(name) in snapshot.hosts
            ),
            revocable=revocable_clouds(snapshot),
            doomed=frozenset(snapshot.host_deadlines()),
        )

    def market(self) -> Market | None:
        """Return what the whole job costs an hour, by zone and on demand; a zone is never dearer than that."""
        needs = total(vm.needs for vm in self.vms)
        used = {host.cloud for host in self.snapshot.hosts.values()}
        dollars = {
            cloud: tick.compute_dollars_per_hour(needs)
            for cloud, tick in self.snapshot.prices.items()
            if cloud in used
        }
        lasting = min((dollars[c] for c in dollars.keys() - self.revocable), default=None)
        if lasting is None:
            return None
        zones = tuple(
            Zone(
                name=ZoneName(cloud),
                spot_dollars_per_hour=min(lasting, dollars.get(cloud, lasting)),
            )
            for cloud in sorted(self.revocable & used)
        )
        return Market(zones=zones, on_demand_dollars_per_hour=lasting) if zones else None

    def running(self) -> Whereabouts:
        """Return where the job runs: on spot while one VM does; nowhere while one's host will be gone."""
        hosts = [self.snapshot.hosts[self.snapshot.placement.host_of[vm.name]] for vm in self.vms]
        if any(host.name in self.doomed for host in hosts):
            return Idle()
        taken = Counter(host.cloud for host in hosts if host.cloud in self.revocable)
        if not taken:
            return ON_DEMAND
        return Spot(ZoneName(min(taken, key=lambda cloud: (-taken[cloud], cloud))))

    def takes(self, zone: ZoneName) -> bool:
        """Say whether a zone has room, in all, for the VMs that aren't there yet.

        What counts are hosts that answer, and stay; and it must have the networks that those VMs are on.
        """
        snapshot = self.snapshot
        hosts = {h.name for h in snapshot.hosts_of(CloudName(zone))} - self.doomed
        hosts -= snapshot.silent_hosts()
        free = total(snapshot.capacity[host].free for host in hosts if host in snapshot.capacity)
        where = snapshot.placement.host_of
        coming = [vm for vm in self.vms if where[vm.name] not in hosts]
        cloud = snapshot.clouds[CloudName(zone)]
        reachable = not any(
            cloud.lacks(vm) for vm in coming if snapshot.cloud_of(vm.name) != cloud.name
        )
        return bool(hosts) and reachable and free.covers(total(vm.needs for vm in coming))

    def changeover_seconds(
        self, goal: DeadlineGoal, policies: Sequence[Policy], settings: PlannerSettings
    ) -> float:
        """Return how long moving all of the VMs holds the job up: as the policy says, or as past moves took."""
        each = goal.changeover_seconds
        if each is None:
            each = self.snapshot.changeover_seconds()
        if each is not None:
            return each * len(self.vms)
        estimator = Estimator.learnt_from(self.snapshot, settings, policies)
        clouds = {host.cloud for host in self.snapshot.hosts.values()}

        def slowest(vm: Vm) -> float:
            here = self.snapshot.cloud_of(vm.name)
            ways = (estimator.seconds(vm, here, there) for there in clouds - {here})
            return max(ways, default=settings.overhead_seconds)

        return sum(map(slowest, self.vms))
