"""Prices that are certain to come: their mean decides."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.plan.worlds import NOW, price, vm, world
from transhume.knowledge.model import NoPlan, Plan, PriceTick, Snapshot
from transhume.plan import make_plan
from transhume.plan.price_ahead import mean_price
from transhume.policies.model import ElectiveLimits, Policy

HOUR = 3600.0
CHEAP = Policy(name="cheap", source="t", elective=ElectiveLimits(min_gain=0.0))


def later(cloud: str, vcpu: float, hours: float) -> PriceTick:
    return replace(price(cloud, vcpu), at=NOW + timedelta(hours=hours))


def two_clouds(*ahead: PriceTick) -> Snapshot:
    """Return a VM in a, where a and b cost the same now."""
    found = world(
        {"a1": [vm("w")]}, room={"a1": 2, "b1": 2}, prices=[price("a", 0.1), price("b", 0.1)]
    )
    return replace(found, prices_ahead=ahead)


def test_each_price_counts_for_its_part_of_the_horizon() -> None:
    ahead = (later("a", 0.4, 1), later("b", 9, 2), later("a", 0.1, 3), later("a", 9, 7))
    mean = mean_price(price("a", 0.1), ahead, at=NOW, seconds=6 * HOUR)
    assert mean.dollars_per_vcpu_hour == pytest.approx((1 * 0.1 + 2 * 0.4 + 3 * 0.1) / 6)
    assert mean.egress_dollars_per_gb == pytest.approx(0.05)


def test_a_price_stays_where_nothing_is_known_ahead() -> None:
    now = price("a", 0.1)
    assert mean_price(now, (later("b", 1, 1),), at=NOW, seconds=HOUR) == now


def test_vms_leave_before_a_cloud_becomes_dear() -> None:
    assert isinstance(make_plan(two_clouds(), [CHEAP], trigger="t"), NoPlan)
    plan = make_plan(two_clouds(later("a", 0.5, 1)), [CHEAP], trigger="t")
    assert isinstance(plan, Plan)
    assert [step.destination_cloud for step in plan.steps] == ["b"]


def test_nothing_moves_for_a_price_that_soon_is_over() -> None:
    """What b saves for a minute, it costs for six hours."""
    now = two_clouds(later("b", 0.2, 1 / 60))
    cheap_now = replace(now, prices=now.prices | {price("b", 0.05).cloud: price("b", 0.05)})
    assert isinstance(make_plan(cheap_now, [CHEAP], trigger="t"), NoPlan)
    assert isinstance(make_plan(replace(cheap_now, prices_ahead=()), [CHEAP], trigger="t"), Plan)
