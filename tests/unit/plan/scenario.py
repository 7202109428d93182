"""The federation that most tests start from: two virtual clusters of three in cloud a, room in cloud b."""

from collections.abc import Sequence
from typing import Any

from tests.unit.plan.worlds import MB, group, price, ring, traffic, vm, world
from transhume.knowledge.model import ClusterName, NoPlan, Plan, PriceTick, Snapshot
from transhume.plan import make_plan
from transhume.policies.model import ElectiveLimits, Policy, Selector

BLAST = ("vm1", "vm3", "vm5")
WEB = ("vm2", "vm4", "vm6")
NAMES = tuple(sorted(BLAST + WEB))
DEAR_A = (price("a", 0.20), price("b", 0.05))
DEAR_EGRESS = (price("a", 0.20, egress=0.5), price("b", 0.05, egress=0.5))
ON_BLAST = Selector(clusters=(ClusterName("blast"),))
EAGER = ElectiveLimits(min_gain=0.0, cooldown_seconds=0.0)

blast = [vm(name, cluster="blast") for name in BLAST]
web = [vm(name, cluster="web") for name in WEB]
groups = (group("g-blast", *BLAST), group("g-web", *WEB))


def two_clusters(*, prices: Sequence[PriceTick] = DEAR_A, **changes: Any) -> Snapshot:
    """Return both clusters in a, each busy within itself, with room for all of them in b."""
    known: dict[str, Any] = {
        "placement": {"a1": blast + web},
        "room": {"a1": 6, "b1": 6},
        "matrix": traffic(NAMES, ring(BLAST, 2 * MB) | ring(WEB, 2 * MB)),
        "groups": groups,
    }
    return world(prices=prices, **(known | changes))


def policy(name: str = "cheap", **parts: Any) -> Policy:
    return Policy(name=name, source="test", **({"elective": EAGER} | parts))


def planned(snapshot: Snapshot, *policies: Policy) -> Plan:
    result = make_plan(snapshot, policies, trigger="a test")
    assert isinstance(result, Plan), result.reason
    return result


def unplanned(snapshot: Snapshot, *policies: Policy) -> NoPlan:
    result = make_plan(snapshot, policies, trigger="a test")
    assert isinstance(result, NoPlan), result.steps
    return result


def ways(plan: Plan) -> dict[str, str]:
    """Return the destination cloud by VM."""
    return {step.vm: step.destination_cloud for step in plan.steps}
