"""Deadlines in force: when a job's VMs may be in a cloud that takes its machines back."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.plan.worlds import NOW, SMALL, notice, price, vm, world
from transhume.knowledge.model import (
    CloudName,
    HostName,
    Interface,
    JobName,
    MacAddress,
    MoveKind,
    NoPlan,
    Placement,
    Plan,
    Progress,
    Resources,
    RevocationNotice,
    Snapshot,
    VirtualNetworkName,
)
from transhume.plan import PlannerSettings, make_plan
from transhume.plan.deadline.keeping import DeadlineKeeper
from transhume.policies.model import (
    DeadlineGoal,
    DeadlineStrategy,
    ElectiveLimits,
    Forbid,
    MigrationTerms,
    Policy,
)

HOUR = 3600.0
JOB = JobName("blast")
SPOT, STEADY = CloudName("spot"), CloudName("steady")
ROOMY = Resources(vcpus=8, memory_bytes=8 * SMALL.memory_bytes)


def at(
    hours: float,
    *,
    host: str,
    done: float,
    notices: Sequence[RevocationNotice] = (),
    prices: Sequence[float] = (0.01, 0.03),
    moving: Sequence[str] = (),
) -> Snapshot:
    """Return two VMs on a host, so many hours in, with a share of the work done."""
    found = world(
        {host: [vm("w1"), vm("w2")]},
        room={"spot1": ROOMY, "steady1": ROOMY},
        prices=[price("spot", prices[0]), price("steady", prices[1])],
        notices=notices,
        moving=moving,
    )
    now = NOW + timedelta(hours=hours)
    return replace(
        found,
        at=now,
        clouds={SPOT: replace(found.clouds[SPOT], revocable=True), STEADY: found.clouds[STEADY]},
        progress={JOB: Progress(job=JOB, at=now, done=done, total=1.0)},
    )


def job(
    strategy: DeadlineStrategy = DeadlineStrategy.UNIFORM_PROGRESS,
    *,
    work: float = 10 * HOUR,
    within: float = 12 * HOUR,
    changeover: float | None = 180.0,
) -> Policy:
    return Policy(
        name="batch",
        source="t",
        elective=ElectiveLimits(min_gain=0.0, cooldown_seconds=0.0),
        deadline=DeadlineGoal(
            at=NOW + timedelta(seconds=within),
            work_seconds=work,
            progress_job=JOB,
            changeover_seconds=changeover,
            strategy=strategy,
        ),
    )


def forbidden(keeper: DeadlineKeeper, snapshot: Snapshot, policy: Policy) -> str:
    """Return why revocable clouds are forbidden; nothing where they aren't."""
    (heeded,) = keeper.heed(snapshot, [policy])
    return next((r.why for r in heeded.rules if isinstance(r, Forbid) and r.why), "")


def keeper() -> DeadlineKeeper:
    return DeadlineKeeper(PlannerSettings())


def test_a_job_in_step_with_time_may_use_spot() -> None:
    keep = keeper()
    assert not forbidden(keep, at(0, host="spot1", done=0.0), job())
    assert not forbidden(keep, at(6, host="spot1", done=0.5), job())


def test_spot_without_the_networks_of_a_job_is_none() -> None:
    """It can't go there: the strategy isn't to count on it."""
    green = Interface(mac=MacAddress("52:54:00:00:00:01"), network=VirtualNetworkName("green"))

    def ahead(*, networks: frozenset[VirtualNetworkName] | None) -> str:
        keep, known = keeper(), at(6, host="steady1", done=0.52)
        forbidden(keep, at(0, host="steady1", done=0.0), job())
        vms = {name: replace(each, interfaces=(green,)) for name, each in known.vms.items()}
        spot = replace(known.clouds[SPOT], networks=networks)
        return forbidden(keep, replace(known, vms=vms, clouds={**known.clouds, SPOT: spot}), job())

    assert not ahead(networks=None)
    assert not ahead(networks=frozenset((VirtualNetworkName("green"),)))
    assert "wants machines that stay" in ahead(networks=frozenset())


def test_spot_whose_hosts_are_silent_is_none() -> None:
    def ahead(*, silent: bool) -> str:
        keep, known = keeper(), at(6, host="steady1", done=0.52)
        forbidden(keep, at(0, host="steady1", done=0.0), job())
        spot = replace(known.capacity[HostName("spot1")], silent=silent)
        return forbidden(keep, replace(known, capacity={**known.capacity, spot.host: spot}), job())

    assert not ahead(silent=False)
    assert "wants machines that stay" in ahead(silent=True)


def test_a_job_that_fell_behind_stays_on_machines_that_stay() -> None:
    keep = keeper()
    assert not forbidden(keep, at(0, host="spot1", done=0.0), job())
    why = forbidden(keep, at(6, host="steady1", done=0.45), job())
    assert why == (
        "policy batch: with 5h 30m of work and 6h until the deadline, uniform-progress wants "
        "machines that stay"
    )


def test_two_changeovers_ahead_it_may_go_back_to_spot() -> None:
    """The hysteresis of Uniform Progress: a changeover has to be earned first."""
    keep = keeper()
    forbidden(keep, at(0, host="steady1", done=0.0), job())
    assert forbidden(keep, at(6, host="steady1", done=0.505), job())
    assert not forbidden(keep, at(6, host="steady1", done=0.52), job())


@pytest.mark.parametrize("strategy", DeadlineStrategy)
def test_before_a_revocation_could_make_it_late_it_leaves_spot(strategy: DeadlineStrategy) -> None:
    """The safety net is under each strategy, and its moves are mandatory: they needn't pay."""
    late = at(10, host="spot1", done=0.805)
    (heeded,) = keeper().heed(late, [job(strategy)])
    plan = make_plan(late, [heeded], trigger="t")
    assert isinstance(plan, Plan)
    assert {(s.vm, s.destination_cloud, s.kind) for s in plan.steps} == {
        ("w1", STEADY, MoveKind.MANDATORY),
        ("w2", STEADY, MoveKind.MANDATORY),
    }
    assert "deadline" in plan.steps[0].reason


def test_what_is_barred_to_it_is_no_saving() -> None:
    """Spot costs a third, but a job that has fallen behind isn't moved there for it."""
    behind = at(0.5, host="steady1", done=0.0)
    keep, policy = keeper(), job()
    keep.heed(at(0, host="steady1", done=0.0), [policy])
    (heeded,) = keep.heed(behind, [policy])
    assert isinstance(make_plan(behind, [policy], trigger="t"), Plan)
    assert isinstance(make_plan(behind, [heeded], trigger="t"), NoPlan)


def test_an_evacuation_goes_where_the_strategy_wants_it() -> None:
    """Behind its pace when spot is taken back, the job goes on demand; the planner needn't know why."""
    keep, policy = keeper(), job()
    keep.heed(at(0, host="spot1", done=0.0), [policy])
    going = at(6, host="spot1", done=0.45, notices=[notice("spot", 7 * HOUR)])
    assert forbidden(keep, going, policy)


def test_while_vms_move_the_last_answer_stands() -> None:
    keep, policy = keeper(), job()
    keep.heed(at(0, host="steady1", done=0.0), [policy])
    assert forbidden(keep, at(6, host="steady1", done=0.4), policy)
    on_the_way = at(6, host="spot1", done=0.6, moving=["w1"])
    assert forbidden(keep, on_the_way, policy)


def test_what_was_never_asked_while_vms_move_forbids_nothing() -> None:
    """A daemon that is started then, or a policy that comes into force: who isn't moving needn't leave spot."""
    keep, policy = keeper(), job()
    assert not forbidden(keep, at(6, host="spot1", done=0.52, moving=["w1"]), policy)
    assert not forbidden(keep, at(6, host="spot1", done=0.52), policy)


def test_changeovers_are_measured_where_the_policy_names_none() -> None:
    """Two VMs of 96 MiB over 100 kB/s each takes minutes: the net closes earlier than over a fast link."""
    close = at(10, host="spot1", done=0.82)
    slow = replace(close, links=tuple(replace(k, bytes_per_second=1e5) for k in close.links))
    fast = at(10, host="spot1", done=0.84)
    assert forbidden(keeper(), slow, job(changeover=None))
    assert not forbidden(keeper(), fast, job(changeover=None))


@pytest.mark.parametrize(
    "snapshot",
    [
        pytest.param(at(11, host="spot1", done=1.0), id="done"),
        pytest.param(at(13, host="spot1", done=0.5), id="past its deadline"),
        pytest.param(replace(at(11, host="spot1", done=0.1), prices={}), id="no prices"),
        pytest.param(replace(at(11, host="spot1", done=0.1), clouds={}), id="nothing revocable"),
        pytest.param(
            replace(at(11, host="spot1", done=0.1), placement=Placement()), id="no VM placed"
        ),
    ],
)
def test_where_nothing_is_to_be_decided_policies_stay_as_they_are(snapshot: Snapshot) -> None:
    policy = job()
    assert keeper().heed(snapshot, [policy]) == (policy,)


@pytest.mark.parametrize("strategy", DeadlineStrategy)
def test_strategies_take_dear_and_priceless_spot_without_a_word(strategy: DeadlineStrategy) -> None:
    dear = at(1, host="spot1", done=0.2, prices=(0.9, 0.03))
    priceless = replace(dear, prices={STEADY: dear.prices[STEADY]})
    full = replace(
        dear, capacity={h: replace(c, free=c.free - c.free) for h, c in dear.capacity.items()}
    )
    keep = keeper()
    for snapshot in (dear, priceless, full):
        keep.heed(snapshot, [job(strategy)])


def test_disks_that_any_policy_has_copied_hold_a_job_up() -> None:
    """An hour's work more than they take to copy is left: machines that stay, while there is time to go."""
    known = at(0, host="spot1", done=0.0)
    held = {name: replace(each, disk_bytes=200 * 10**9) for name, each in known.vms.items()}
    known = replace(known, vms=held)
    batch = job(work=10 * HOUR, within=12 * HOUR, changeover=None)
    copying = Policy(name="copying", source="t", migration=MigrationTerms(copy_disks=True))

    alone, _ = keeper().heed(known, [batch, replace(copying, migration=None)])
    together, _ = keeper().heed(known, [batch, copying])

    assert not [rule for rule in alone.rules if isinstance(rule, Forbid)]
    assert [rule for rule in together.rules if isinstance(rule, Forbid)]
