"""The bill: who pays for what, and that the parts add up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.plan.worlds import MB, NOW, moved, notice, price, traffic, vm, ways, world
from transhume.knowledge.model import Cloud, CloudName, JobName, Measurement, Progress, Snapshot
from transhume.plan.money import Bill
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.policies.model import DeadlineGoal, LatencyGoal, Policy, Selector

SETTINGS = PlannerSettings(
    horizon_seconds=3600.0, loss_dollars_per_vcpu=7.0, late_dollars_per_second=2.0
)
PRICES = (price("a", 0.2, egress=0.1), price("b", 0.1, egress=0.5))
GB_PER_HOUR = 1e9 / 3600


def apart(**changes: object) -> Snapshot:
    """Return v1 in a and v2 in b; v1 sends 1 GB/h to v2, v2 sends 2 GB/h back, v1 3 GB/h to outside."""
    matrix = traffic(
        ("v1", "v2"),
        {("v1", "v2"): GB_PER_HOUR, ("v2", "v1"): 2 * GB_PER_HOUR},
        outside={"v1": 3 * GB_PER_HOUR},
    )
    known = {"prices": PRICES, "matrix": matrix} | changes
    return world({"a1": [vm("v1")], "b1": [vm("v2")]}, room={"a1": 2, "b1": 2}, **known)  # type: ignore[arg-type]


def bill(snapshot: Snapshot, policy: Policy | None = None) -> Bill:
    rules = policy or Policy(name="p", source="")
    return Bill.of(Situation.read(snapshot, [rules], SETTINGS))


def test_each_sender_pays_its_clouds_price_for_what_leaves_it() -> None:
    found = bill(apart())
    home = found.situation.home

    cost = found.of_assignment(home)

    assert cost.compute == pytest.approx(0.2 + 0.1)
    assert cost.egress == pytest.approx(1 * 0.1 + 2 * 0.5 + 3 * 0.1, rel=1e-4)
    assert cost.migration == 0


def test_traffic_within_a_provider_costs_what_that_asks() -> None:
    a, b = CloudName("a"), CloudName("b")
    clouds = {c: Cloud(name=c, provider="one", region=c) for c in (a, b)}
    cheap = replace(PRICES[0], egress_within_provider_dollars_per_gb=0.01)
    found = bill(replace(apart(prices=(cheap, PRICES[1])), clouds=clouds))

    cost = found.of_assignment(found.situation.home)

    assert cost.egress == pytest.approx(1 * 0.01 + 2 * 0.5 + 3 * 0.1, rel=1e-4)
    per_gb = found.prediction(0, int(found.situation.home[1]))
    assert per_gb.dollars == pytest.approx(
        per_gb.bytes / 1e9 * 0.01 + 0.1 * per_gb.seconds / 3600, rel=1e-6
    )


NEAR = Policy(name="near", source="", latency=LatencyGoal(dollars_per_gb_ms=0.001))


def test_the_way_between_vms_that_talk_weighs_and_is_not_money() -> None:
    found = bill(apart(links=ways({("a", "b"): 20})), NEAR)
    home = found.situation.home
    joined = home.copy()
    joined[1] = joined[0]

    assert found.of_assignment(home).latency == pytest.approx((1 + 2) * 20 * 0.001, rel=1e-4)
    assert found.of_assignment(joined).latency == 0
    assert found.of_assignment(home).egress == bill(apart()).of_assignment(home).egress
    saved = found.savings(home, joined).sum()
    before, after = found.of_assignment(home), found.of_assignment(joined)
    assert saved == pytest.approx(before.running - after.running)
    assert found.running_share((0, 1), home) == pytest.approx(before.running - before.latency)


def test_of_two_policies_the_larger_worth_of_a_millisecond_decides() -> None:
    """One end's policy is enough, and several don't add up."""
    matrix = apart(links=ways({("a", "b"): 20}))
    more = Policy(
        name="more",
        source="",
        applies_to=Selector(vms=("v2",)),
        latency=LatencyGoal(dollars_per_gb_ms=0.01),
    )
    found = Bill.of(Situation.read(matrix, [NEAR, more], SETTINGS))

    assert found.of_assignment(found.situation.home).latency == pytest.approx(0.6, rel=1e-4)


def test_a_round_trip_that_nobody_told_is_the_longest_known() -> None:
    links = ways({("a", "c"): 80, ("c", "d"): 10})
    placement = {"a1": [vm("v1")], "b1": [vm("v2")], "c1": [], "d1": []}
    snapshot = world(
        placement,
        room=dict.fromkeys(placement, 2),
        prices=PRICES,
        matrix=apart().matrix,
        links=links,
    )
    assert bill(snapshot, NEAR).latency.tolist() == [
        [0, 80, 80, 80],
        [80, 0, 80, 80],
        [80, 80, 0, 10],
        [80, 80, 10, 0],
    ]


def test_together_they_pay_for_outside_only_and_once_for_the_move() -> None:
    found = bill(apart())
    joined = found.situation.home.copy()
    joined[1] = joined[0]

    cost = found.of_assignment(joined)

    assert cost.egress == pytest.approx(3 * 0.1, rel=1e-4)
    assert cost.migration == pytest.approx(found.prediction(1, int(joined[0])).dollars)


def test_what_a_pair_saves_belongs_to_the_one_that_moved() -> None:
    found = bill(apart())
    joined = found.situation.home.copy()
    joined[1] = joined[0]

    saved = found.savings(found.situation.home, joined)

    assert saved[0] == 0
    assert saved[1] == pytest.approx(1 * 0.1 + 2 * 0.5 + (0.1 - 0.2), rel=1e-4)


def test_only_governed_vms_and_their_traffic_are_on_the_bill() -> None:
    only_v2 = Policy(name="p", source="", applies_to=Selector(vms=("v2",)))
    found = bill(apart(), only_v2)

    cost = found.of_assignment(found.situation.home)

    assert cost.compute == pytest.approx(0.1)
    assert cost.egress == pytest.approx(1 * 0.1 + 2 * 0.5, rel=1e-4)


def test_a_cloud_that_tells_no_price_is_reckoned_as_the_dearest() -> None:
    found = bill(apart(prices=PRICES[:1]))

    assert found.of_assignment(found.situation.home).compute == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("seconds", "risk"),
    [
        pytest.param(600, 7.0, id="within the horizon"),
        pytest.param(7200, 0.0, id="beyond the horizon"),
    ],
)
def test_a_vm_that_will_be_lost_within_the_horizon_is_a_risk(seconds: float, risk: float) -> None:
    found = bill(apart(notices=[notice("a", seconds)]))

    assert found.of_assignment(found.situation.home).risk == pytest.approx(risk)


@pytest.mark.parametrize(
    ("done", "before", "after"),
    [
        pytest.param(0.0, 2 * 400, 2 * 410, id="late already"),
        pytest.param(0.5, 0.0, 0.0, id="with slack to spare"),
        pytest.param(0.401, 0.0, 2 * 9, id="late because of the move"),
    ],
)
def test_lateness_counts_the_seconds_past_the_deadline(
    done: float, before: float, after: float
) -> None:
    """Of 1000 s of work 600 s may be left."""
    job = JobName("blast")
    goal = DeadlineGoal(
        at=NOW + timedelta(seconds=600), work_seconds=1000, progress_job=job, changeover_seconds=10
    )
    progress = {job: Progress(job=job, at=NOW, done=done * 50, total=50)}
    found = bill(replace(apart(), progress=progress), Policy(name="p", source="", deadline=goal))
    moved = found.situation.home.copy()
    moved[1] = moved[0]

    assert found.of_assignment(found.situation.home).lateness == pytest.approx(before)
    assert found.of_assignment(moved).lateness == pytest.approx(after)


def test_a_job_that_is_done_is_late_no_more_once_its_deadline_is_over() -> None:
    job = JobName("blast")
    goal = DeadlineGoal(at=NOW - timedelta(days=1), work_seconds=1000, progress_job=job)
    progress = {job: Progress(job=job, at=NOW, done=50, total=50)}
    found = bill(replace(apart(), progress=progress), Policy(name="p", source="", deadline=goal))

    assert found.of_assignment(found.situation.home).lateness == 0
    assert found.delays == ()


def test_a_measured_changeover_is_the_median_of_our_own_moves() -> None:
    """Until one was measured, what each move is predicted to take counts."""
    goal = DeadlineGoal(at=NOW, work_seconds=100)
    policy = Policy(name="p", source="", deadline=goal)
    lasted = [
        moved("v1", ago=60, measured=Measurement(bytes=1, seconds=seconds))
        for seconds in (10.0, 300.0, 20.0)
    ]

    (unmeasured,) = bill(apart(), policy).delays
    (measured,) = bill(apart(outcomes=[*lasted, moved("v1", ago=60)]), policy).delays

    assert set(measured.seconds) == {20.0}
    assert unmeasured.seconds == pytest.approx(
        tuple(bill(apart(), policy).seconds.max(axis=1).tolist())
    )


def test_an_unknown_vm_in_the_matrix_costs_nothing() -> None:
    matrix = traffic(("v1", "gone"), {("v1", "gone"): 100 * MB})

    found = bill(apart(matrix=matrix))

    assert found.of_assignment(found.situation.home).egress == 0
    assert found.situation.clouds == (CloudName("a"), CloudName("b"))
