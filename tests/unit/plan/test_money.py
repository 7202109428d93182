"""The bill: who pays for what, and that the parts add up."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.plan.worlds import MB, NOW, moved, notice, price, traffic, vm, world
from transhume.knowledge.model import CloudName, JobName, Measurement, Progress, Snapshot
from transhume.plan.money import Bill
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.policies.model import DeadlineGoal, Policy, Selector

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
