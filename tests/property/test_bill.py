"""The bill and the canonical problem beside their definition, reckoned pair by pair on random federations."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_plan import POLICIES, UNHURRIED, snapshots
from transhume.knowledge.model import CloudName, PriceTick, Snapshot, VmName
from transhume.plan import PlannerSettings
from transhume.plan.constraints import Assignment
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.money import Bill
from transhume.plan.rules import read_rules
from transhume.plan.situation import Situation
from transhume.policies.model import Policy

SETTINGS = PlannerSettings(negligible_dollars_per_hour=0.0)
ALL_DOLLARS = Freedom(movable=frozenset(), payback=False)
POLICY_PAIRS = st.lists(POLICIES, min_size=1, max_size=2, unique_by=lambda policy: policy.name)


def asked(
    snapshot: Snapshot, tick: PriceTick, source: CloudName, destination: CloudName | None
) -> float:
    """Return what a gigabyte costs, as docs/reference/prices.md says."""
    if destination is None:
        return tick.egress_dollars_per_gb
    if source == destination:
        return 0.0
    one, other = snapshot.clouds[source], snapshot.clouds[destination]
    special = None
    if one.provider == other.provider != "":
        same = one.region == other.region != ""
        special = (
            tick.egress_within_region_dollars_per_gb
            if same
            else tick.egress_within_provider_dollars_per_gb
        )
    return tick.egress_dollars_per_gb if special is None else special


def milliseconds(snapshot: Snapshot, one: CloudName, other: CloudName) -> float:
    told = {
        link.clouds: link.latency_seconds * 1000
        for link in snapshot.links
        if link.latency_seconds is not None
    }
    longest = max(told.values(), default=0.0)
    return 0.0 if one == other else told.get(frozenset((one, other)), longest)


def by_definition(
    snapshot: Snapshot, policies: list[Policy], bill: Bill, assignment: Assignment
) -> tuple[float, float]:
    """Return what egress and latency come to, in dollars per hour."""
    matrix, situation = snapshot.matrix, bill.situation
    assert matrix is not None
    cloud = {
        vm: situation.places[place].cloud
        for vm, place in zip(situation.vms, assignment, strict=True)
    }
    egress = latency = 0.0
    for row, vm in enumerate(matrix.vms):
        if _governed(snapshot, policies, vm):
            gb = float(matrix.to_outside[row]) / matrix.seconds * 3600 / 1e9
            egress += gb * asked(snapshot, bill.prices[cloud[vm]], cloud[vm], None)
    for source, destination, count in zip(
        matrix.source, matrix.destination, matrix.bytes, strict=True
    ):
        ends = matrix.vms[source], matrix.vms[destination]
        here, there = (cloud[vm] for vm in ends)
        gb = float(count) / matrix.seconds * 3600 / 1e9
        if any(_governed(snapshot, policies, vm) for vm in ends):
            egress += gb * asked(snapshot, bill.prices[here], here, there)
        worth = max(
            (
                policy.latency.dollars_per_gb_ms
                for policy in policies
                for vm in ends
                if policy.latency and policy.governs(snapshot.vms[vm])
            ),
            default=0.0,
        )
        latency += gb * worth * milliseconds(snapshot, here, there)
    return egress, latency


def _governed(snapshot: Snapshot, policies: list[Policy], vm: VmName) -> bool:
    return any(policy.governs(snapshot.vms[vm]) for policy in policies)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots(), POLICY_PAIRS, st.integers(0, 2**32 - 1))
def test_egress_and_latency_are_what_their_definition_says(
    snapshot: Snapshot, policies: list[Policy], seed: int
) -> None:
    bill = Bill.of(Situation.read(snapshot, policies, SETTINGS))
    for assignment in _somewhere(bill, seed):
        found = bill.of_assignment(assignment)
        egress, latency = by_definition(snapshot, policies, bill, assignment)
        assert found.egress == pytest.approx(egress, rel=1e-9, abs=1e-12)
        assert found.latency == pytest.approx(latency, rel=1e-9, abs=1e-12)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=UNHURRIED)
@given(snapshots(), POLICY_PAIRS, st.integers(0, 2**32 - 1))
def test_the_problem_costs_what_the_bill_says(
    snapshot: Snapshot, policies: list[Policy], seed: int
) -> None:
    """But for a preferred cloud, which breaks ties and is on no bill."""
    plain = [replace(p, availability=replace(p.availability, prefer=())) for p in policies]
    situation = Situation.read(snapshot, plain, SETTINGS)
    bill = Bill.of(situation)
    formulator = Formulator(situation=situation, bill=bill, ruling=read_rules(situation, bill))
    problem = formulator.problem(ALL_DOLLARS)
    for assignment in _somewhere(bill, seed):
        total = bill.of_assignment(assignment).total
        assert problem.cost(assignment) == pytest.approx(total, rel=1e-9, abs=1e-9)


def _somewhere(bill: Bill, seed: int) -> list[Assignment]:
    rng = np.random.default_rng(seed)
    places, vms = len(bill.situation.places), len(bill.situation.vms)
    return [rng.integers(0, places, vms) for _ in range(5)]
