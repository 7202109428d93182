"""The worked example of docs/explanations.md: its text is what the planner says of its federation.

Where they differ, the test's message is the text that belongs on the page.
"""

import re
from pathlib import Path

import pytest

from tests.unit.plan.worlds import group, price, traffic, vm, world
from transhume.knowledge.model import Plan, Resources, VmName
from transhume.plan import explain_plan, explain_vm, make_plan
from transhume.policies.loader import load_policies

PAGE = (Path(__file__).parents[3] / "docs" / "explanations.md").read_text()
GIB = 1 << 30


def size(vcpus: int, gib: int) -> Resources:
    return Resources(vcpus=vcpus, memory_bytes=gib * GIB)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    found = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    (tmp_path / "shop.yaml").write_text(found[1])
    names = ("db-1", "web-1", "web-2", "batch-1")
    needs = (size(4, 8), size(2, 4), size(2, 4), size(2, 2))
    shop = world(
        {"rented1": [vm(name, needs=need) for name, need in zip(names, needs, strict=True)]},
        room={"rented1": size(16, 32), "campus1": size(6, 24), "spot1": size(8, 16)},
        prices=(
            price("campus", 0.02, egress=0.0),
            price("rented", 0.045, egress=0.09),
            price("spot", 0.015, egress=0.09),
        ),
        matrix=traffic(
            names,
            {
                ("web-1", "db-1"): 3e6,
                ("db-1", "web-1"): 6e6,
                ("web-2", "db-1"): 1e5,
                ("db-1", "web-2"): 2e5,
            },
        ),
        groups=(group("shop", "db-1", "web-1", "web-2"),),
    )
    result = make_plan(
        shop, load_policies([tmp_path / "shop.yaml"]), trigger="rented asks $0.045 per vCPU-hour"
    )
    assert isinstance(result, Plan), result.reason
    return result


@pytest.mark.parametrize("vm_name", ["", "batch-1", "db-1"])
def test_the_page_shows_what_the_planner_says(plan: Plan, vm_name: str) -> None:
    lines = explain_plan(plan)
    if vm_name:
        explanation = plan.explanations[VmName(vm_name)]
        lines = explain_vm(explanation, plan.limits, plan.horizon_seconds)
    said = "\n".join(lines).replace(plan.id, "plan-4f2a")

    assert said in PAGE, said
