"""Replays of small adversarial traces: what is skipped changes nothing, and chance has no part in them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.plan.worlds import traffic
from transhume.knowledge.codec import encode
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    Host,
    HostName,
    JobName,
    Link,
    NoPlan,
    PriceTick,
    Resources,
    RevocationNotice,
    Vm,
    VmName,
)
from transhume.loop import Loop
from transhume.plan import PlannerSettings, make_plan
from transhume.policies.model import (
    AnyOf,
    AvailabilityGoal,
    DeadlineGoal,
    ElectiveLimits,
    Forbid,
    KeepTogether,
    LatencyGoal,
    Mode,
    MoveBudget,
    Policy,
    PriceGoal,
    Selector,
    Spread,
    Together,
)
from transhume.replaying import Alternative, Facts, HostRoom, JobPace, Trace, Traffic, compare
from transhume.replaying.comparison import Manner, jobs_of
from transhume.replaying.descent import ReplaySolver
from transhume.replaying.migration import MigrationModel
from transhume.replaying.screen import Look, Screen
from transhume.replaying.trace import NewTraffic
from transhume.replaying.undertaking import Moved
from transhume.replaying.world import Setting, World

START = datetime(2030, 1, 1, tzinfo=UTC)
HOURS = 10
TICK_SECONDS = 300.0
CLOUDS = tuple(map(CloudName, ("a", "b", "c")))
NAMES = tuple(f"vm{number}" for number in range(1, 6))
GIB = 1 << 30
QUICK = ReplaySolver(most_exact_vms=0)
"""What is held here is held for any solver that answers the same each time; this one is fast."""

instants = st.integers(0, HOURS * 60).map(lambda minute: START + timedelta(minutes=minute))
dollars = st.sampled_from((0.02, 0.04, 0.041, 0.05, 0.1))
egress = st.sampled_from((0.0, 0.001, 0.02, 0.09))
rates = st.sampled_from((2e3, 5e4, 4e5, 3e6))


@st.composite
def prices(draw, at=instants):
    return PriceTick(
        cloud=draw(st.sampled_from(CLOUDS)),
        at=draw(at),
        dollars_per_vcpu_hour=draw(dollars),
        dollars_per_gib_hour=draw(st.sampled_from((0.0, 0.004))),
        egress_dollars_per_gb=draw(egress),
        egress_within_provider_dollars_per_gb=draw(st.sampled_from((None, None, None, 0.001))),
    )


@st.composite
def talk(draw):
    pairs = st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True).map(tuple)
    outside = draw(st.dictionaries(st.sampled_from(NAMES), rates, max_size=2))
    return Traffic(matrix=traffic(NAMES, draw(st.dictionaries(pairs, rates, max_size=6)), outside))


@st.composite
def notices(draw):
    cloud, at = draw(st.sampled_from(CLOUDS)), draw(instants)
    deadline = at + timedelta(minutes=draw(st.sampled_from((1, 2, 30, 200))))
    found = [RevocationNotice(cloud=cloud, at=at, deadline=deadline)]
    if draw(st.booleans()):
        back = draw(instants.filter(lambda instant: instant > at) | st.just(deadline))
        found.append(replace(found[0], at=back, withdrawn=True))
    return found


@st.composite
def policies(draw, deadlines=True):
    everybody = Selector()
    some = Selector(vms=draw(st.sampled_from((("vm1", "vm2"), ("vm*",), ("vm4",)))))
    rules = draw(
        st.lists(
            st.sampled_from(
                (
                    Spread(who=some, minimum=2),
                    Together(who=some),
                    Forbid(who=some, clouds=(CLOUDS[2],)),
                    AnyOf(who=some, clouds=CLOUDS[1:]),
                )
            ),
            max_size=1,
        )
    )
    goal = None
    if deadlines and draw(st.integers(0, 4)) == 0:
        goal = DeadlineGoal(
            at=START + timedelta(hours=draw(st.integers(2, HOURS))),
            work_seconds=3600.0 * draw(st.integers(1, 4)),
            progress_job=draw(st.sampled_from((JobName("blast"), None))),
        )
    return Policy(
        name="restless",
        source="here",
        applies_to=draw(st.sampled_from((everybody, Selector(vms=("vm1", "vm2", "vm3"))))),
        mode=draw(st.sampled_from(tuple(Mode))),
        rules=tuple(rules),
        keep_together=draw(st.sampled_from((None, KeepTogether(cut_above_bytes_per_second=1e5)))),
        price=draw(
            st.sampled_from(
                (None, PriceGoal(payback_seconds=1800.0), PriceGoal(payback_seconds=2e4))
            )
        ),
        availability=AvailabilityGoal(
            prefer=draw(st.sampled_from(((), (CLOUDS[0],)))), evacuate_on_notice=draw(st.booleans())
        ),
        latency=draw(st.sampled_from((None, None, None, LatencyGoal(dollars_per_gb_ms=0.001)))),
        deadline=goal,
        elective=ElectiveLimits(
            min_gain=draw(st.sampled_from((0.0, 0.03, 0.1))),
            hold_seconds=draw(st.sampled_from((0.0, 420.0, 1800.0))),
            cooldown_seconds=draw(st.sampled_from((0.0, 1700.0, 7200.0))),
            budgets=draw(st.sampled_from(((), (MoveBudget(moves=2, per_seconds=2000.0),)))),
        ),
    )


@st.composite
def traces(draw):
    hosts = {HostName(f"{c}1"): Host(name=HostName(f"{c}1"), cloud=c) for c in CLOUDS}
    room = draw(st.sampled_from((4, 6, 10)))
    whole = Resources(vcpus=room, memory_bytes=room * GIB)
    vms = {
        VmName(name): Vm(
            name=VmName(name),
            uuid=name,
            needs=Resources(vcpus=1 + (name == "vm5"), memory_bytes=GIB),
            dirty_bytes_per_second=draw(st.sampled_from((None, 5e6))),
        )
        for name in NAMES
    }
    at_first = [draw(prices(st.just(START))) for _ in range(2)]
    known = [replace(at_first[0], cloud=cloud) for cloud in CLOUDS]
    changes = [
        *known,
        *at_first,
        NewTraffic(at=START, traffic=draw(talk())),
        *draw(st.lists(prices(), max_size=8)),
        *(
            NewTraffic(at=at, traffic=each)
            for at, each in draw(st.lists(st.tuples(instants, talk()), max_size=2))
        ),
        *(each for found in draw(st.lists(notices(), max_size=2)) for each in found),
        *(
            HostRoom(host=HostName("b1"), at=at, total=Resources(vcpus=n, memory_bytes=n * GIB))
            for at, n in draw(st.lists(st.tuples(instants, st.sampled_from((0, 3, 8))), max_size=2))
        ),
        *(
            JobPace(job=JobName("blast"), at=at, share_per_second=1 / 9000)
            for at in draw(st.lists(instants, max_size=1))
        ),
    ]
    placed = draw(st.sampled_from((("a1",) * 4 + ("b1",), ("b1", "b1", "a1", "a1", "c1"))))
    return Trace(
        start=START,
        end=START + timedelta(hours=HOURS),
        facts=Facts(
            clouds={
                cloud: Cloud(name=cloud, provider="" if cloud == CLOUDS[0] else "one")
                for cloud in CLOUDS
            },
            hosts=hosts,
            vms=vms,
            links=(Link(clouds=frozenset(CLOUDS[:2]), bytes_per_second=3e6, latency_seconds=0.03),),
            room=dict.fromkeys(hosts, whole),
        ),
        host_of=dict(zip(vms, map(HostName, placed), strict=True)),
        changes=tuple(changes),
        tick_seconds=TICK_SECONDS,
    )


def run(trace: Trace, policy: Policy, *, every_tick: bool) -> tuple[list[Moved], World]:
    """Return what moved, and the world in the end."""
    facts = trace.at_start()
    model = MigrationModel.calibrated(facts, (), at=START, settings=PlannerSettings())
    world = World(
        Setting(
            start=trace.start,
            end=trace.end,
            facts=facts,
            host_of=trace.host_of,
            policies=(policy,),
            judged=(policy,),
            jobs=jobs_of((policy,), facts),
            model=model,
            loop=Loop(model.settings, solver=QUICK),
            tick_seconds=TICK_SECONDS,
            every_tick=every_tick,
        )
    )
    for at, now in trace.batches():
        world.tell(now, at)
        world.check_invariants()
    world.run_to(trace.end)
    return world.moves, world


@settings(max_examples=examples(4), deadline=None, suppress_health_check=list(HealthCheck))
@given(trace=traces(), policy=policies())
def test_asking_when_something_can_have_changed_moves_what_asking_at_every_tick_moves(
    trace, policy
):
    seldom, sparing = run(trace, policy, every_tick=False)
    always, thorough = run(trace, policy, every_tick=True)
    event(f"{min(len(always), 4)} moves or more")
    assert seldom == always
    assert sparing.asked <= thorough.asked
    assert sparing.tally.moves == thorough.tally.moves
    assert sparing.tally.lost == thorough.tally.lost
    assert sparing.tally.dollars == pytest.approx(thorough.tally.dollars)


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(trace=traces(), policy=policies())
def test_no_elective_move_comes_within_a_cool_down(trace, policy):
    _, world = run(trace, policy, every_tick=False)
    assert world.tally.moves_too_soon == 0


@settings(max_examples=examples(50), deadline=None, suppress_health_check=list(HealthCheck))
@given(trace=traces(), policy=policies(deadlines=False))
def test_what_the_screen_calls_worthless_is_refused_by_the_planner(trace, policy):
    """Asked of the exact solver: the screen's bounds hold for the best plan there is."""
    facts = replace(trace.at_start(), notices=())
    policy = replace(policy, rules=())
    model = MigrationModel.calibrated(facts, (), at=START, settings=PlannerSettings())
    quiet = Screen((policy,), model).nothing_pays(
        Look(at=START, facts=facts, host_of=trace.host_of, placement_version=1, outcomes=())
    )
    event(f"quiet: {quiet}")
    if quiet:
        world = World(
            Setting(
                start=START,
                end=trace.end,
                facts=facts,
                host_of=trace.host_of,
                policies=(policy,),
                judged=(),
                jobs=(),
                model=model,
                loop=Loop(model.settings),
            )
        )
        found = make_plan(world.snapshot(START), (policy,), trigger="", settings=model.settings)
        assert isinstance(found, NoPlan), found.steps


@settings(max_examples=examples(3), deadline=None, suppress_health_check=list(HealthCheck))
@given(trace=traces(), policy=policies())
def test_the_same_trace_gives_the_same_comparison_to_the_last_byte(trace, policy):
    alternatives = (Alternative(name="it", policies=(policy,)),)
    manner = Manner(solver=QUICK)
    first, again = (encode(compare(trace, alternatives, manner=manner)) for _ in "ab")
    assert first == again
