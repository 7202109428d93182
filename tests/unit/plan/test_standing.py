"""What is said of how good a plan is: only what was proved, and never less than the gap."""

from dataclasses import replace

import pytest

from tests.unit.plan.scenario import ON_BLAST, planned, policy, two_clusters
from transhume.knowledge.codec import decode, encode
from transhume.knowledge.model import CostRate, Plan
from transhume.plan.standing import standing

PLAN = planned(two_clusters(), policy(applies_to=ON_BLAST))


def with_bound(bound: float | None, bill: float = 10.0) -> Plan:
    return replace(PLAN, optimal=False, after=CostRate(compute=bill), bound_dollars_per_hour=bound)


def test_a_proved_plan_is_its_own_bound() -> None:
    assert PLAN.optimal
    assert PLAN.bound_dollars_per_hour == PLAN.after.total
    assert PLAN.gap == 0.0
    assert standing(PLAN) == "optimal (proved)"


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        (None, "nothing is proved of how good it is"),
        (9.93, "within 0.71 % of the best possible (proved)"),
        (9.6, "within 4.2 % of the best possible (proved)"),
        (7.0, "within 43 % of the best possible (proved)"),
        (10 - 1e-6, "within 0.001 % of the best possible (proved)"),
        (-1.0, "within $11.00/h of the best possible (proved)"),
    ],
    ids=["no-bound", "below-one", "above-one", "tens", "tiny", "negative"],
)
def test_a_gap_is_told_rounded_up(bound: float | None, said: str) -> None:
    assert standing(with_bound(bound)) == said


def test_a_plan_of_before_there_were_bounds_is_still_read() -> None:
    told = encode(with_bound(None)).replace(b'"bound_dollars_per_hour":null,', b"")
    assert b"bound" not in told
    assert decode(Plan, told) == with_bound(None)
