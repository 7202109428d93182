"""The planner against brute force and against its own independent checker, on random federations."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    CommunicationMatrix,
    Group,
    GroupId,
    Host,
    HostName,
    Interface,
    Link,
    MacAddress,
    MoveKind,
    NoPlan,
    Outcome,
    Placement,
    Plan,
    PlanId,
    Prediction,
    PriceTick,
    Resources,
    RevocationNotice,
    Snapshot,
    StepId,
    StepResult,
    VirtualNetworkName,
    Vm,
    VmName,
    total,
)
from transhume.plan import ExactSolver, PlannerSettings, Problem, find_faults, make_plan
from transhume.plan.constraints import (
    AllOrNone,
    AtLeastClouds,
    AtMost,
    Constraint,
    CutLimit,
    Delay,
    LinkTime,
    MoveLimit,
    SameCloud,
    SpendLimit,
    Terrain,
)
from transhume.plan.problem import Place
from transhume.policies.calendar import Hours
from transhume.policies.extension import Verdict, View
from transhume.policies.model import (
    EVERYTHING,
    AnyOf,
    AvailabilityGoal,
    DeadlineGoal,
    ElectiveLimits,
    Forbid,
    Hold,
    KeepTogether,
    LatencyGoal,
    MoveBudget,
    Ordered,
    Pin,
    Policy,
    PriceGoal,
    Python,
    Quota,
    Rule,
    Selector,
    Spread,
    Together,
)

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MIB = 1 << 20
NETWORKS = (VirtualNetworkName("blue"), VirtualNetworkName("green"))
UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]

# the solver


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw a problem of up to 6 VMs in up to 3 clouds, in which staying put is feasible."""
    n = draw(st.integers(1, 6))
    k = draw(st.integers(1, 3))
    cloud = np.array([0, 1, draw(st.sampled_from([1, 2]))][:k])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    home = rng.integers(0, k, n)
    allowed = rng.random((n, k)) < 0.8
    allowed[np.arange(n), home] = True
    needs = np.stack([rng.integers(1, 4, n), rng.integers(1, 5, n) * 100 * MIB], axis=1)
    capacity = np.zeros((k, 2), dtype=np.int64)
    np.add.at(capacity, home, needs)
    capacity += np.stack([rng.integers(0, 5, k), rng.integers(0, 6, k) * 100 * MIB], axis=1)
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.5])
    pairs = pairs.reshape(-1, 2).astype(np.int64)
    rates = rng.random((len(pairs), 2)) * 10 * (rng.random((len(pairs), 2)) < 0.8)
    penalty = np.zeros((n, k))
    leaving = rng.random(n) < 0.3 * draw(st.booleans())
    penalty[np.arange(n), home] = leaving * rng.integers(1, 4, n)
    terrain = Terrain(home=home, cloud=cloud, pairs=pairs, rates=rates)
    constraints = [
        constraint
        for constraint in draw(st.lists(constraints_over(n, k, cloud, len(pairs)), max_size=3))
        if math.isfinite(constraint.penalty) or not constraint.excess(terrain, home)
    ]
    delays = ()
    if draw(st.booleans()):
        delays = (
            Delay(
                members=tuple(range(n)),
                seconds=tuple(float(s) for s in rng.integers(0, 10, n)),
                slack_seconds=float(rng.integers(-5, 20)),
                dollars_per_hour_per_second=float(rng.random()),
            ),
        )
    egress, nearness, latency = apart_costs(draw, rng, int(cloud.max()) + 1, len(pairs))
    return Problem(
        vms=tuple(VmName(f"vm{i}") for i in range(n)),
        places=tuple(Place(cloud=CloudName(f"c{c}"), doomed=i == 2) for i, c in enumerate(cloud)),
        cloud=cloud,
        home=home,
        allowed=allowed,
        penalty=penalty,
        dollars=rng.random((n, k)) * 3,
        pairs=pairs,
        rates=rates,
        egress=egress,
        nearness=nearness,
        latency=latency,
        needs=needs,
        capacity=capacity,
        constraints=tuple(constraints),
        delays=delays,
    )


def apart_costs(
    draw: st.DrawFn, rng: np.random.Generator, clouds: int, pairs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw what a byte costs from cloud to cloud, by sender or by class, and what a millisecond weighs."""
    egress = np.tile(rng.random((clouds, 1)) * 0.1, (1, clouds))
    if draw(st.booleans()):
        egress *= rng.choice([0.0, 0.1, 0.5, 1.0], (clouds, clouds))
    np.fill_diagonal(egress, 0.0)
    if not draw(st.booleans()):
        return egress, np.zeros(0), np.zeros((0, 0))
    latency = rng.integers(0, 100, (clouds, clouds)) * 1.0
    latency = np.triu(latency, 1) + np.triu(latency, 1).T
    return egress, rng.choice([0.0, 1e-3, 1e-2], pairs), latency


def constraints_over(
    n: int, k: int, cloud: np.ndarray, pairs: int
) -> st.SearchStrategy[Constraint]:
    members = st.sets(st.integers(0, n - 1), min_size=min(2, n)).map(lambda s: tuple(sorted(s)))
    penalty = st.sampled_from([math.inf, 0.3, 2.0])
    kinds: list[st.SearchStrategy[Constraint]] = [
        st.builds(AtLeastClouds, members=members, minimum=st.integers(1, 3), penalty=penalty),
        st.builds(
            AtMost,
            members=members,
            cloud=st.sampled_from([int(c) for c in cloud]),
            limit=st.integers(0, n),
            penalty=penalty,
        ),
        st.builds(MoveLimit, members=members, limit=st.integers(0, n)),
        st.builds(
            LinkTime,
            members=st.just(tuple(range(n))),
            place=st.integers(0, k - 1),
            seconds=st.tuples(*[st.floats(0, 10)] * n),
            limit=st.floats(0, 60),
        ),
        st.builds(
            lambda rows, limit: SpendLimit(
                members=tuple(range(n)), amounts=tuple(map(tuple, rows)), limit=limit
            ),
            st.lists(st.lists(st.floats(0, 10), min_size=k, max_size=k), min_size=n, max_size=n),
            st.floats(0, 60),
        ),
    ]
    if n > 1:
        kinds += [
            st.builds(SameCloud, members=members, penalty=penalty),
            st.builds(AllOrNone, members=members, penalty=penalty),
        ]
    if pairs:
        some = st.sets(st.integers(0, pairs - 1), min_size=1).map(lambda s: tuple(sorted(s)))
        kinds.append(
            st.builds(CutLimit, pairs=some, bytes_per_second=st.floats(0, 40), penalty=penalty)
        )
    return st.one_of(kinds)


def brute_force(problem: Problem) -> tuple[float, float]:
    """Return the least violation, and the least cost at that violation, by trying everything."""
    every = (
        np.array(choice) for choice in product(range(len(problem.places)), repeat=len(problem.vms))
    )
    found = [(problem.violation(a), problem.cost(a)) for a in every if problem.feasible(a)]
    least = min(violation for violation, _ in found)
    return least, min(cost for violation, cost in found if violation <= least + 1e-9)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=UNHURRIED)
@given(problems())
def test_the_exact_solver_finds_what_brute_force_finds(problem: Problem) -> None:
    violation, cost = brute_force(problem)

    solution = ExactSolver().solve(problem)

    assert solution.optimal
    assert problem.feasible(solution.assignment)
    assert math.isclose(solution.violation, violation, abs_tol=1e-5)
    assert math.isclose(solution.cost, cost, rel_tol=1e-5, abs_tol=1e-5)


# whole plans

HOSTS = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
TAGS = ("db", "web")
B = CloudName("b")
SELECTORS = st.sampled_from(
    [
        EVERYTHING,
        Selector(tags=("db",)),
        Selector(tags=("web",)),
        Selector(vms=("vm0", "vm1", "vm2")),
    ]
)
CLOUDS = st.sampled_from([CloudName(c) for c in "abc"])


class OwnRule:
    """A user's rule that says the same each time."""

    def __init__(self, forbidden: set[str], wishes: dict[str, float], *, fails: bool) -> None:
        self.forbidden, self.wishes, self.fails = forbidden, wishes, fails

    def judge(self, view: View) -> Verdict:
        if self.fails:
            raise ZeroDivisionError
        return Verdict(
            forbidden={
                (vm.name, CloudName(c)): "a test" for vm in view.vms for c in self.forbidden
            },
            dollars_per_hour={
                (vm.name, CloudName(c)): d for vm in view.vms for c, d in self.wishes.items()
            },
        )


class _Says:
    """A user's rule that gives this verdict."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def judge(self, view: View) -> Verdict:
        return self._verdict


OWN_RULES = st.builds(
    OwnRule,
    st.sets(st.sampled_from("abc"), max_size=2),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from([-0.2, 0.01, 0.3])),
    fails=st.sampled_from([False] * 5 + [True]),
)
SOME_CLOUDS = st.lists(CLOUDS, min_size=1, max_size=2, unique=True).map(tuple)
RULES = st.one_of(
    st.builds(Pin, who=SELECTORS, cloud=CLOUDS),
    st.builds(Forbid, who=SELECTORS, clouds=CLOUDS.map(lambda c: (c,))),
    st.builds(Together, who=SELECTORS),
    st.builds(Spread, who=SELECTORS, minimum=st.integers(1, 3), hold=st.sampled_from(Hold)),
    st.builds(Quota, cloud=CLOUDS, vms=st.integers(0, 6)),
    st.builds(AnyOf, who=SELECTORS, clouds=SOME_CLOUDS),
    st.builds(
        Ordered,
        who=SELECTORS,
        clouds=SOME_CLOUDS,
        worth_dollars_per_hour=st.sampled_from([0.01, 0.3]),
    ),
    st.builds(Python, name=st.just("own"), rule=OWN_RULES),
)
BUDGETS = st.one_of(
    st.builds(MoveBudget, moves=st.integers(0, 3), per_seconds=st.just(3600.0)),
    st.builds(
        MoveBudget,
        bytes=st.sampled_from([0, 2 * 10**8, 10**9]),
        per_seconds=st.just(300.0),
    ),
    st.builds(
        MoveBudget,
        moves=st.integers(0, 2),
        dollars=st.sampled_from([None, 0.0, 0.01]),
        hours=st.builds(
            Hours,
            begins_minute=st.sampled_from([60, 719, 720, 721, 1000]),
            ends_minute=st.sampled_from([30, 720, 800, 1440]),
            timezone=st.sampled_from([UTC, ZoneInfo("Europe/Rome")]),
        ),
    ),
)
POLICIES = st.builds(
    Policy,
    name=st.sampled_from(["one", "two"]),
    source=st.just("here"),
    applies_to=SELECTORS,
    rules=st.lists(RULES, max_size=2).map(tuple),
    keep_together=st.none()
    | st.builds(KeepTogether, cut_above_bytes_per_second=st.sampled_from([1e3, 1e6])),
    price=st.none() | st.builds(PriceGoal, payback_seconds=st.sampled_from([None, 60.0, 3600.0])),
    latency=st.none()
    | st.builds(LatencyGoal, dollars_per_gb_ms=st.sampled_from([0.0, 1e-4, 0.01])),
    availability=st.builds(
        AvailabilityGoal,
        prefer=st.sampled_from([(), (CloudName("c"),)]),
        evacuate_on_notice=st.booleans(),
    ),
    deadline=st.none()
    | st.builds(
        DeadlineGoal,
        at=st.just(NOW + timedelta(hours=2)),
        work_seconds=st.sampled_from([600.0, 7190.0, 9000.0]),
    ),
    elective=st.builds(
        ElectiveLimits,
        min_gain=st.sampled_from([0.0, 0.05, 0.4]),
        cooldown_seconds=st.sampled_from([0.0, 3600.0]),
        budgets=st.lists(BUDGETS, max_size=2).map(tuple),
    ),
)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Draw a federation of three clouds with up to six VMs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 6))
    hosts = {HostName(h): Host(name=HostName(h), cloud=CloudName(c)) for h, c in HOSTS.items()}
    vms = {
        name: Vm(
            name=name,
            uuid=name,
            needs=Resources(
                vcpus=int(rng.integers(1, 3)), memory_bytes=int(rng.integers(1, 4)) * 100 * MIB
            ),
            tags=frozenset(tag for tag in TAGS if rng.random() < 0.5),
            dirty_bytes_per_second=float(rng.random() * 2e7),
        )
        for name in (VmName(f"vm{i}") for i in range(n))
    }
    host_of = {vm: HostName(str(rng.choice(list(HOSTS)))) for vm in vms}
    capacity = {
        host: _report(rng, host, [vms[v] for v, h in host_of.items() if h == host])
        for host in hosts
    }
    if draw(st.booleans()):
        del capacity[HostName("c1")]
    between = rng.integers(0, 10**8, (n, n)) * (rng.random((n, n)) < 0.5)
    np.fill_diagonal(between, 0)
    matrix = replace(
        CommunicationMatrix.of_dense(between, start=NOW, seconds=10.0, vms=tuple(vms)),
        to_outside=rng.integers(0, 10**8, n),
    )
    names = list(vms)
    clouds = draw(_clouds())
    if draw(st.booleans()):
        clouds = _with_networks(clouds, rng)
        vms = {
            name: _on_networks(vm, clouds[hosts[host_of[name]].cloud], rng)
            for name, vm in vms.items()
        }
    return Snapshot(
        version=1,
        at=NOW,
        clouds=clouds,
        hosts=hosts,
        links=(
            Link(
                clouds=frozenset((CloudName("a"), CloudName("b"))),
                bytes_per_second=2e7,
                latency_seconds=draw(st.sampled_from([None, 0.0, 0.005, 0.1])),
            ),
            Link(
                clouds=frozenset((CloudName("a"), CloudName("c"))),
                bytes_per_second=1e8,
                latency_seconds=draw(st.sampled_from([None, 0.02])),
            ),
        ),
        vms=vms,
        placement=Placement(host_of=host_of),
        moving=frozenset(v for v in names if rng.random() < 0.1),
        capacity=capacity,
        prices=draw(_prices()),
        notices=tuple(draw(st.lists(_notices(), max_size=2))),
        matrix=matrix,
        groups=(
            _group("g1", [v for i, v in enumerate(names) if i % 2]),
            _group("g2", [v for i, v in enumerate(names) if not i % 2]),
        ),
        outcomes=tuple(_outcome(v) for v in names if rng.random() < 0.2),
    )


def _report(rng: np.random.Generator, host: HostName, there: list[Vm]) -> CapacityReport:
    used = total(vm.needs for vm in there)
    free = Resources(
        vcpus=int(rng.integers(0, 6)), memory_bytes=int(rng.integers(0, 10)) * 100 * MIB
    )
    overcommitted = Resources(vcpus=int(rng.random() < 0.1), memory_bytes=0)
    return CapacityReport(host=host, at=NOW, total=used + free - overcommitted, free=free)


def _clouds() -> st.SearchStrategy[Mapping[CloudName, Cloud]]:
    where = st.tuples(st.sampled_from(["", "one", "two"]), st.sampled_from(["", "east", "west"]))
    return st.tuples(where, where, where).map(
        lambda found: {
            CloudName(c): Cloud(name=CloudName(c), provider=provider, region=region)
            for c, (provider, region) in zip("abc", found, strict=True)
        }
    )


def _with_networks(
    clouds: Mapping[CloudName, Cloud], rng: np.random.Generator
) -> Mapping[CloudName, Cloud]:
    return {
        name: replace(cloud, networks=frozenset(n for n in NETWORKS if rng.random() < 0.6))
        for name, cloud in clouds.items()
    }


def _on_networks(vm: Vm, home: Cloud, rng: np.random.Generator) -> Vm:
    """Return a VM on some of its cloud's networks."""
    on = [n for n in sorted(home.networks or ()) if rng.random() < 0.5]
    return replace(vm, interfaces=tuple(Interface(mac=MacAddress(n), network=n) for n in on))


def _prices() -> st.SearchStrategy[Mapping[CloudName, PriceTick]]:
    nearer = st.sampled_from([None, 0.0, 0.01])
    tick = st.tuples(
        st.sampled_from([0.01, 0.05, 0.2]), st.sampled_from([0.0, 0.02, 0.1]), nearer, nearer
    )
    return st.dictionaries(CLOUDS, tick, min_size=1, max_size=3).map(
        lambda asked: {
            cloud: PriceTick(
                cloud=cloud,
                at=NOW,
                dollars_per_vcpu_hour=vcpu,
                egress_dollars_per_gb=egress,
                egress_within_region_dollars_per_gb=region,
                egress_within_provider_dollars_per_gb=provider,
            )
            for cloud, (vcpu, egress, region, provider) in asked.items()
        }
    )


def _notices() -> st.SearchStrategy[RevocationNotice]:
    return st.builds(
        lambda host, whole, seconds: RevocationNotice(
            cloud=CloudName(HOSTS[host]),
            at=NOW,
            deadline=NOW + timedelta(seconds=seconds),
            host=None if whole else HostName(host),
        ),
        st.sampled_from(list(HOSTS)),
        st.booleans(),
        st.sampled_from([-5.0, 10.0, 40.0, 600.0]),
    )


def _group(name: str, members: list[VmName]) -> Group:
    return Group(
        id=GroupId(name),
        vms=tuple(members),
        internal_bytes_per_second=1.0,
        external_bytes_per_second=1.0,
    )


def _outcome(vm: VmName) -> Outcome:
    ended = NOW - timedelta(minutes=10)
    return Outcome(
        plan=PlanId("p"),
        step=StepId(f"p-{vm}"),
        vm=vm,
        source=HostName("a1"),
        destination=HostName("b1"),
        result=StepResult.DONE,
        why="",
        started_at=ended,
        ended_at=ended,
        predicted=Prediction(bytes=1, seconds=1.0, downtime_seconds=0.0, dollars=0.0),
        measured=None,
    )


def _distinct(policies: list[Policy]) -> bool:
    return len({policy.name for policy in policies}) == len(policies)


@settings(max_examples=examples(100), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots(), st.lists(POLICIES, min_size=1, max_size=2).filter(_distinct))
def test_every_plan_is_faultless_and_keeps_its_promises(
    snapshot: Snapshot, policies: list[Policy]
) -> None:
    result = make_plan(snapshot, policies, trigger="a test")

    if isinstance(result, NoPlan):
        assert result.reason
        assert "would break" not in result.reason
        return
    assert find_faults(snapshot, policies, result.steps) == ()
    _adds_up(result)
    for step in result.steps:
        if step.kind is MoveKind.ELECTIVE:
            assert step.payback_seconds is not None
            assert step.payback_seconds <= result.horizon_seconds + 1e-6
            assert snapshot.vms[step.vm].name not in snapshot.moving


PLANTED = st.sampled_from(["two lists", "a pin to nowhere", "a full cloud", "an own rule"])


@settings(max_examples=examples(50), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots(), POLICIES, PLANTED)
def test_a_planted_impossibility_is_found(snapshot: Snapshot, policy: Policy, planted: str) -> None:
    """Whatever else is wanted: a VM that may be nowhere is named, and stays where it is."""
    name = VmName("vm0")
    who = Selector(vms=(name,))
    if planted == "a full cloud":
        report = replace(snapshot.capacity[HostName("b1")], free=Resources(vcpus=0, memory_bytes=0))
        full = {HostName("b1"): report}
        snapshot = replace(snapshot, capacity={**snapshot.capacity, **full})
    if name in snapshot.moving or (planted == "a full cloud" and snapshot.cloud_of(name) == "b"):
        return
    everywhere = {(name, cloud): "a test" for cloud in snapshot.clouds}
    rules: dict[str, tuple[Rule, ...]] = {
        "two lists": (
            AnyOf(who=who, clouds=(CloudName("a"), CloudName("b"))),
            AnyOf(who=who, clouds=(CloudName("c"),)),
        ),
        "a pin to nowhere": (Pin(who=who, cloud=CloudName("z")),),
        "a full cloud": (AnyOf(who=who, clouds=(B,)),),
        "an own rule": (Python(name="own", rule=_Says(Verdict(forbidden=everywhere))),),
    }
    files = [policy] + [
        Policy(name=f"planted {n}", source="here", rules=(rule,))
        for n, rule in enumerate(rules[planted])
    ]

    result = make_plan(snapshot, files, trigger="a test")

    crowd = {vm for vm, host in snapshot.placement.host_of.items() if host == "b1"}
    left = crowd & {step.vm for step in result.steps} if isinstance(result, Plan) else set()
    if planted == "a full cloud" and left:
        return  # somebody made room
    assert name in result.unplaced
    assert result.unplaced[name]
    if isinstance(result, Plan):
        assert name not in {step.vm for step in result.steps}


def _adds_up(plan: Plan) -> None:
    bound = plan.bound_dollars_per_hour
    assert bound is None or bound <= plan.after.total
    assert not plan.optimal or bound == plan.after.total
    saved = sum(step.saving_dollars_per_hour for step in plan.steps)
    assert math.isclose(saved, plan.before.running - plan.after.running, abs_tol=1e-6)
    once = sum(step.prediction.dollars + step.split_dollars for step in plan.steps)
    assert math.isclose(plan.after.migration, once * 3600 / plan.horizon_seconds, abs_tol=1e-9)


@settings(max_examples=examples(30), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots(), POLICIES)
def test_the_same_snapshot_gives_the_same_plan(snapshot: Snapshot, policy: Policy) -> None:
    first = make_plan(snapshot, [policy], trigger="a test", settings=PlannerSettings())

    assert make_plan(snapshot, [policy], trigger="a test", settings=PlannerSettings()) == first


@settings(max_examples=examples(30), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots())
def test_a_plan_without_notices_or_rules_never_costs_more_than_it_saves(snapshot: Snapshot) -> None:
    calm = replace(snapshot, notices=())

    result = make_plan(calm, [Policy(name="one", source="here")], trigger="a test")

    if isinstance(result, Plan):
        assert result.saving_dollars_per_hour > 0
        assert all(step.kind is MoveKind.ELECTIVE for step in result.steps)
