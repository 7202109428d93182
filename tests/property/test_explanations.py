"""What explanations say is true: of random federations, reckoned anew from the bill."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_plan import POLICIES, UNHURRIED, snapshots
from transhume.knowledge.codec import decode, encode
from transhume.knowledge.model import (
    CAUSES,
    CloudName,
    Explanation,
    NoPlan,
    Parameter,
    Plan,
    PriceTick,
    Snapshot,
    TurningPoint,
)
from transhume.plan import PlannerSettings, explain_no_plan, explain_plan, explain_vm, make_plan
from transhume.plan.constraints import Assignment, Indices
from transhume.plan.money import Bill
from transhume.plan.situation import Situation
from transhume.plan.vm_lines import WIDTH, beyond
from transhume.policies.model import ElectiveLimits, Policy, PriceGoal

SETTINGS = PlannerSettings()
PLAIN = POLICIES.map(
    lambda policy: replace(
        policy, price=PriceGoal(), availability=replace(policy.availability, prefer=())
    )
)
"""Policies that weigh as the bill does: without a payback of their own, or a taste."""


class Case:
    """A decision, beside what it was made from."""

    def __init__(self, snapshot: Snapshot, policies: list[Policy]) -> None:
        self.snapshot, self.policies = snapshot, policies
        self.result = make_plan(snapshot, policies, trigger="a test", settings=SETTINGS)
        self.situation = Situation.read(snapshot, policies, SETTINGS)
        self.bill = Bill.of(self.situation)
        self.chosen = self.situation.home.copy()
        for step in self.result.steps if isinstance(self.result, Plan) else ():
            self.chosen[self.situation.number[step.vm]] = self.place(step.destination_cloud)

    def place(self, cloud: CloudName) -> int:
        """Return the place of a cloud in which VMs may arrive."""
        places = enumerate(self.situation.places)
        return next(k for k, place in places if place.cloud == cloud and not place.doomed)

    def unit(self, explanation: Explanation, *, alone: bool) -> Indices:
        names = [explanation.vm] if alone else explanation.bundle
        return tuple(self.situation.number[name] for name in names)

    def elsewhere(self, unit: Indices, cloud: CloudName, *, stays: bool) -> Assignment:
        trial = self.chosen.copy()
        for vm in unit:
            trial[vm] = self.situation.home[vm] if stays else self.place(cloud)
        return trial

    def points(self) -> Iterator[tuple[Explanation, TurningPoint]]:
        for explanation in self.result.explanations.values():
            for point in explanation.turning_points:
                yield explanation, point


def calm(snapshot: Snapshot, asked: tuple[float, ...]) -> Case:
    """Return a case in which nothing but money and room counts: bundles move."""
    prices = {
        cloud: PriceTick(
            cloud=cloud, at=snapshot.at, dollars_per_vcpu_hour=vcpu, egress_dollars_per_gb=0.05
        )
        for cloud, vcpu in zip(sorted(snapshot.clouds), asked, strict=True)
    }
    world = replace(snapshot, notices=(), moving=frozenset(), outcomes=(), prices=prices)
    return Case(world, [Policy(name="one", source="here", elective=ElectiveLimits(min_gain=0.0))])


CASES = st.builds(
    Case,
    snapshots(),
    st.lists(PLAIN, min_size=1, max_size=2, unique_by=lambda policy: policy.name),
) | st.builds(calm, snapshots(), st.tuples(*[st.sampled_from([0.01, 0.05, 0.2, 1.0])] * 3))


@settings(max_examples=examples(15), deadline=None, suppress_health_check=UNHURRIED)
@given(CASES)
def test_the_parts_of_the_vms_add_up_to_what_the_bill_changes(case: Case) -> None:
    plan = case.result
    assume(isinstance(plan, Plan))
    assert isinstance(plan, Plan)
    lines = [line for each in plan.explanations.values() for line in each.bill]

    for cause in CAUSES:
        changed = sum(line.then - line.now for line in lines if line.cause == cause)
        whole = getattr(plan.after, cause) - getattr(plan.before, cause)
        if cause == "migration":  # what crosses clouds only meanwhile is on the plan's bill alone
            assert changed <= whole + 1e-9
            continue
        assert math.isclose(changed, whole, abs_tol=1e-9), cause
    for vm in plan.ways:
        parts = plan.explanations[vm].bill
        saved = sum(line.now - line.then for line in parts if line.cause != "migration")
        told = sum(step.saving_dollars_per_hour for step in plan.steps if step.vm == vm)
        assert math.isclose(saved, told, abs_tol=1e-9)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=UNHURRIED)
@given(CASES)
def test_an_alternative_costs_what_the_bill_says_of_it(case: Case) -> None:
    decided = case.bill.of_assignment(case.chosen).total
    for explanation in case.result.explanations.values():
        for other in explanation.alternatives:
            if other.dollars_per_hour is not None:
                unit = case.unit(explanation, alone=other.alone)
                trial = case.elsewhere(unit, other.cloud, stays=other.stays)
                dearer = case.bill.of_assignment(trial).total - decided
                assert math.isclose(other.dollars_per_hour, dearer, abs_tol=1e-9)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=UNHURRIED)
@given(CASES)
def test_past_a_turning_point_the_other_place_is_cheaper_and_before_it_is_not(case: Case) -> None:
    for explanation, point in case.points():
        if point.parameter in (Parameter.VCPUS, Parameter.MEMORY):
            continue
        unit = case.unit(explanation, alone=point.alone)
        other = case.elsewhere(unit, point.cloud, stays=point.stays)

        def cheaper(value: float, unit: Indices, other: Assignment, point: TurningPoint) -> float:
            bill = with_parameter(case, unit, point, value)
            decided = bill.of_assignment(case.chosen).total
            return decided - bill.of_assignment(other).total

        reach = abs(point.threshold - point.now)
        past = point.threshold + 0.01 * (reach if point.above else -min(reach, point.threshold))
        short = point.threshold + 0.01 * (-reach if point.above else reach)
        assert cheaper(past, unit, other, point) > 0
        assert cheaper(short, unit, other, point) < 0


def with_parameter(case: Case, unit: Indices, point: TurningPoint, value: float) -> Bill:
    """Return the bill of a world in which one number is another."""
    if point.parameter is Parameter.TRAFFIC:
        return with_traffic(case, unit, point, value / point.now)
    cloud = CloudName(point.about)
    tick: PriceTick = case.snapshot.prices[cloud]
    changed = (
        replace(tick, dollars_per_vcpu_hour=value)
        if point.parameter is Parameter.VCPU_PRICE
        else replace(tick, dollars_per_gib_hour=value)
    )
    prices = {**case.snapshot.prices, cloud: changed}
    world = replace(case.snapshot, prices=prices)
    return Bill.of(Situation.read(world, case.policies, SETTINGS))


def with_traffic(case: Case, unit: Indices, point: TurningPoint, scale: float) -> Bill:
    """Scale what a unit exchanges with one peer, or with all but itself."""
    bill, outside = case.bill, case.bill.outside.copy()
    rates, nearness = case.bill.rates.copy(), case.bill.nearness.copy()
    ours = np.isin(bill.pairs, unit)
    across = ours.sum(axis=1) == 1
    if point.about not in ("", "outside"):
        peer = case.situation.number[point.about]  # type: ignore[index]
        across &= (bill.pairs == peer).any(axis=1)
    if point.about != "outside":
        rates[across] *= scale
        nearness[across] *= scale
    if point.about in ("", "outside"):
        outside[list(unit)] *= scale
    return replace(bill, rates=rates, nearness=nearness, outside=outside)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=UNHURRIED)
@given(CASES)
def test_every_vm_that_a_policy_is_about_is_explained_in_lines_that_fit(case: Case) -> None:
    result = case.result
    if not case.situation.governed:
        return
    assert result.explanations.keys() == set(case.situation.vms), result
    for explanation in result.explanations.values():
        lines = explain_vm(explanation, result.limits, SETTINGS.horizon_seconds)
        assert explanation.reason
        assert all(len(line) <= WIDTH for line in lines), lines
    whole = explain_no_plan(result) if isinstance(result, NoPlan) else explain_plan(result)
    assert all(len(line) <= WIDTH for line in whole), whole


@settings(max_examples=examples(15), deadline=None, suppress_health_check=UNHURRIED)
@given(CASES)
def test_the_runner_up_of_a_proved_plan_is_no_cheaper_than_the_plan(case: Case) -> None:
    for explanation in case.result.explanations.values():
        other = explanation.runner_up
        if other is not None and other.dollars_per_hour is not None:
            assert other.dollars_per_hour > -2e-6
            assert not other.barred


@settings(max_examples=examples(10), deadline=None, suppress_health_check=UNHURRIED)
@given(CASES)
def test_explanations_are_written_and_read_back_and_are_the_same_again(case: Case) -> None:
    result = case.result

    assert decode(type(result), encode(result)) == result
    again = make_plan(case.snapshot, case.policies, trigger="a test", settings=SETTINGS)
    assert encode(again) == encode(result)


@given(st.floats(1e-9, 1e12), st.floats(1e-9, 1e12))
def test_a_rounded_threshold_is_past_the_exact_one(threshold: float, now: float) -> None:
    rounded = beyond(threshold, now)

    if threshold > now:
        assert threshold <= rounded <= threshold * 1.011
    else:
        assert threshold * 0.989 <= rounded <= threshold
