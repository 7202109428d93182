"""The replay's time and money, the bound, generated availability, and what our policy learns."""

import numpy as np
import pytest

from transhume.plan.deadline import (
    Availability,
    DeadlinePolicy,
    Foresight,
    Greedy,
    Idle,
    Job,
    Market,
    OnDemand,
    OnDemandOnly,
    Situation,
    Spot,
    UniformProgress,
    Whereabouts,
    Zone,
    ZoneName,
    cases_of,
    compare_policies,
    generate,
    lower_bound_dollars,
    replay,
)
from transhume.plan.deadline.generated import Outages
from transhume.plan.deadline.outlook import Expectation, solve
from transhume.plan.deadline.seen import Seen

A, B = ZoneName("a"), ZoneName("b")
TICK_SECONDS = 600.0
HOUR = 3600.0


def market(*names: ZoneName) -> Market:
    zones = tuple(Zone(name=name, spot_dollars_per_hour=1.0) for name in names)
    return Market(zones=zones, on_demand_dollars_per_hour=3.0)


def ticks(**rows: str) -> Availability:
    """Return availability drawn as words: `a="##.."` has zone a for two ticks, then not."""
    return Availability(
        tick_seconds=TICK_SECONDS,
        zones=tuple(map(ZoneName, rows)),
        there=np.array([[mark == "#" for mark in row] for row in rows.values()]).T,
    )


class Always:
    """A policy that wants one thing, whatever happens."""

    def __init__(self, wanted: Whereabouts) -> None:
        self.wanted = wanted

    def decide(self, situation: Situation) -> Whereabouts:
        return self.wanted


def job(work: float, deadline: float, changeover: float) -> Job:
    return Job(work_seconds=work, deadline_seconds=deadline, changeover_seconds=changeover)


def test_a_changeover_costs_and_does_no_work() -> None:
    """An hour of work and two minutes of changeover; the last tick is paid for in part."""
    found = replay(Always(OnDemand()), job(3600, 6000, 120), market(A), ticks(a="." * 10))
    assert found.on_demand_seconds == 3720
    assert found.on_demand_work_seconds == 3600
    assert found.took_seconds == 3720
    assert found.cost_dollars == pytest.approx(3.0 * 3720 / 3600)
    assert (found.moves, found.missed, found.idle_seconds) == (1, False, 0)


def test_a_changeover_longer_than_a_tick_goes_on_in_the_next() -> None:
    found = replay(Always(Spot(A)), job(1000, 6000, 1500), market(A), ticks(a="#" * 10))
    assert found.all_spot_seconds == 2500
    assert found.spot_work_seconds == 1000


def test_a_revoked_machine_is_gone_before_the_policy_decides() -> None:
    """And the changeover begins anew wherever the job goes."""
    seen: list[Whereabouts] = []

    class Watching(Greedy):
        def decide(self, situation: Situation) -> Whereabouts:
            seen.append(situation.running)
            return super().decide(situation)

    found = replay(
        Watching(), job(1800, 6000, 60), market(A, B), ticks(a="##........", b="..###.....")
    )
    assert seen == [Idle(), Spot(A), Idle(), Spot(B)]
    assert dict(found.spot_seconds) == {A: 1200, B: 720}
    assert found.moves == 2


def test_a_deadline_within_a_tick_ends_the_job_there() -> None:
    found = replay(Always(Idle()), job(600, 900, 0), market(A), ticks(a="...."))
    assert (found.missed, found.took_seconds, found.cost_dollars) == (True, 900, 0)


def test_a_start_that_leaves_too_few_ticks_is_refused() -> None:
    with pytest.raises(ValueError, match="end before the deadline"):
        replay(Greedy(), job(600, 1800, 0), market(A), ticks(a="####"), start_tick=2)


def test_a_policy_can_not_run_where_nothing_is() -> None:
    with pytest.raises(ValueError, match="no spot machine"):
        replay(Always(Spot(A)), job(600, 1800, 0), market(A), ticks(a="...."))


def test_zones_without_a_price_are_refused() -> None:
    with pytest.raises(ValueError, match="different zones"):
        replay(Greedy(), job(600, 1800, 0), market(B), ticks(a="...."))


def test_the_bound_is_what_the_cheapest_ticks_cost() -> None:
    """Four ticks of work and half a tick of changeover, of which spot can have three."""
    bound = lower_bound_dollars(job(2400, 6000, 300), market(A), ticks(a="#.#....#.."))
    assert bound == pytest.approx((1800 * 1.0 + 900 * 3.0) / 3600)


def test_what_is_generated_depends_on_the_seed_only() -> None:
    first, again, other = (generate(ticks=2000, tick_seconds=195, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.there, again.there)
    assert not np.array_equal(first.there, other.there)
    shares = first.there.mean(axis=0)
    assert ((shares > 0.01) & (shares < 0.99)).all()


def test_zones_of_a_region_fail_together() -> None:
    """East with east, and west with west, are more alike than across."""
    outages = Outages(well_seconds=2e5, outage_seconds=1e5)
    there = generate(outages=outages, ticks=100_000, tick_seconds=600, seed=3).there
    alike = np.asarray(np.corrcoef(there.T))
    assert min(alike[0, 1], alike[2, 3]) > 0.05 > alike[:2, 2:].max()


def test_availability_can_be_cut_in_time_and_to_a_zone() -> None:
    found = ticks(a="##..", b=".#.#")
    assert found.alone(B).there[:, 0].tolist() == [False, True, False, True]
    assert len(found.first(1200)) == 2
    assert found.starts_for(1200) == 3
    assert found.starts_for(1201) == 2
    assert found.starts_for(9999) == 0


def test_rates_are_learnt_from_what_was_seen() -> None:
    """A zone that goes each hour is known as worse than one that stays."""
    seen = Seen.of((A, B))
    for tick in range(300):
        seen.look(frozenset({B} if tick % 6 == 0 else {A, B}), tick * TICK_SECONDS)
        seen.check_invariants()
    bad, good = seen.zones[A], seen.zones[B]
    assert bad.losses_per_second == pytest.approx(1 / 3000, rel=0.1)
    assert bad.returns_per_second == pytest.approx(1 / 600, rel=0.3)
    assert good.losses_per_second < bad.losses_per_second / 10


def expectation(**changes: float) -> Expectation:
    given = {
        "work_seconds": 8 * HOUR,
        "deadline_seconds": 10 * HOUR,
        "changeover_seconds": 180,
        "spot_dollars_per_hour": 1,
        "on_demand_dollars_per_hour": 3,
        "losses_per_second": 1 / HOUR,
        "returns_per_second": 1 / HOUR,
        "moves_per_second": 0,
        **changes,
    }
    return Expectation(**given)


def test_more_slack_and_better_zones_are_never_expected_to_cost_more() -> None:
    outlook = solve(expectation())
    last = outlook.dollars[-1]
    assert np.isfinite(outlook.dollars).all()
    better = solve(expectation(losses_per_second=0.1 / HOUR)).dollars[-1]
    assert (better[1, 1, 20:] <= last[1, 1, 20:] + 1e-6).all()
    # A node below the changeover isn't allowed to wait, so only from there on is the curve smooth.
    assert (np.diff(last[0, 0, 8:]) <= 0.05).all()


def test_where_spot_never_comes_back_waiting_is_worse_than_working() -> None:
    choices = solve(expectation(returns_per_second=1e-9)).choices(
        10 * HOUR, 2 * HOUR, there=False, on_demand_now=True
    )
    assert choices.on_demand <= choices.idle


def test_where_spot_comes_back_soon_waiting_is_better() -> None:
    choices = solve(
        expectation(returns_per_second=20 / HOUR, losses_per_second=0.1 / HOUR)
    ).choices(10 * HOUR, 2 * HOUR, there=False, on_demand_now=False)
    assert choices.idle < choices.on_demand


def test_foresight_leaves_a_zone_that_is_lost_often_for_one_that_stays() -> None:
    policy = Foresight(market(A, B))
    wanted = job(50 * HOUR, 60 * HOUR, 60)
    rows = ticks(a=("##." * 200)[:360], b="." * 60 + "#" * 300)
    found = replay(policy, wanted, market(A, B), rows)
    assert found.spot_seconds[B] > 5 * found.spot_seconds[A] > 0
    assert not found.missed


def test_foresight_costs_less_than_uniform_progress_where_zones_differ() -> None:
    wanted = job(48 * HOUR, 60 * HOUR, 720)
    cases = cases_of(
        generate(ticks=9000, tick_seconds=TICK_SECONDS, seed=5),
        wanted,
        spot_dollars_per_hour=0.9731,
        on_demand_dollars_per_hour=3.06,
        starts=3,
        seed=5,
    )
    found = compare_policies(wanted, cases, ("foresight", "uniform-progress", "on-demand"))
    ours, uniform, dear = found.averages
    assert found.bound_dollars <= ours.cost_dollars < uniform.cost_dollars < dear.cost_dollars
    assert dear.share_of_on_demand == pytest.approx(1.0)
    assert (ours.missed, uniform.missed, dear.missed) == (0, 0, 0)


@pytest.mark.parametrize("policy", [Greedy(), UniformProgress(), OnDemandOnly()])
def test_an_infeasible_job_is_as_little_late_as_can_be(policy: DeadlinePolicy) -> None:
    found = replay(policy, job(3600, 3660, 120), market(A), ticks(a="." * 7))
    assert found.missed
    assert found.on_demand_work_seconds == 3540
