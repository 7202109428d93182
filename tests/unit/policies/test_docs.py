"""The pages on policies: their examples are valid, and the planner does with them what the pages say.

Where one is out of date, the failure shows what should be in its place.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan.worlds import MB, group, notice, price, traffic, vm, ways, world
from tests.unit.policies.test_extension import carbon  # noqa: F401  (a fixture)
from transhume.knowledge.model import NoPlan, Snapshot
from transhume.plan import make_plan
from transhume.policies.known_clouds import unknown_clouds
from transhume.policies.loader import PolicyFile, parse_policy
from transhume.policies.schema import PolicySchema, RuleSchema

PAGES = Path(__file__).parents[3] / "docs" / "policies"
INDEX = PAGES / "README.md"
EACH = pytest.mark.parametrize("page", sorted(PAGES.glob("*[a-z].md")), ids=lambda page: page.stem)
CLOUDS = ("campus", "rented-eu", "rented-us")
WORDS = {"mandatory": "must", "elective": "pays"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def files(page: Path) -> list[PolicyFile]:
    return [parse_policy(text.encode(), page.name) for text in blocks(page, "yaml")]


def small_world(
    prices: dict[str, float] | None = None, *, egress: float = 0.05, **changes: Any
) -> Snapshot:
    """Return the world of the examples, as docs/policies/README.md tells it."""
    asked = dict.fromkeys(CLOUDS, 0.05) | (prices or {})
    known: dict[str, Any] = {
        "room": {f"{cloud}1": 4 for cloud in CLOUDS},
        "prices": [price(cloud, dollars, egress=egress) for cloud, dollars in asked.items()],
        "matrix": traffic(("web1", "web2"), {("web1", "web2"): MB, ("web2", "web1"): MB}),
        "groups": [group("g-web1", "web1", "web2")],
    }
    there = {
        "campus1": [vm("web1", tags=["web"]), vm("web2", tags=["web"]), vm("db1", tags=["db"])],
        "rented-eu1": [vm("db2", tags=["db"])],
        "rented-us1": [vm("batch1", tags=["batch"])],
    }
    return world(there, **(known | changes))


CHANGED: dict[str, Callable[[], Snapshot]] = {
    "keep_together": lambda: small_world({"rented-eu": 0.025}, egress=0.0),
    "price": lambda: small_world({"rented-eu": 0.048}),
    "latency": lambda: small_world(
        egress=0.0,
        room={"campus1": 4, "rented-eu1": 1, "rented-us1": 1},
        matrix=traffic(("batch1", "db2"), {("batch1", "db2"): MB}),
        links=ways({("campus", "rented-eu"): 10, ("rented-eu", "rented-us"): 90}),
    ),
    "availability": lambda: small_world(notices=[notice("campus", 600)]),
    "deadline": lambda: small_world({"rented-eu": 0.025}),
    "elective": lambda: small_world({"rented-eu": 0.048}),
    "budget": lambda: small_world({"rented-eu": 0.025}),
    "after": lambda: small_world({"rented-eu": 0.025}),
    "composition": lambda: small_world({"rented-us": 0.025}),
}


def effect(page: Path) -> str:
    """Return what the planner does with a page's examples, as the page should say it."""
    snapshot = CHANGED.get(page.stem, small_world)()
    result = make_plan(snapshot, [file.policy for file in files(page)], trigger="an example")
    left = [f"{name} stays: {why}" for name, why in result.unplaced.items()]
    if isinstance(result, NoPlan):
        return "\n".join([f"nothing is done: {result.reason}", *left, ""])
    gone = [
        f"{step.vm} goes to {step.destination_cloud}, {WORDS[step.kind]}: {step.reason}"
        for step in result.steps
    ]
    return "\n".join([*gone, *left, ""])


@pytest.mark.usefixtures("carbon")
@EACH
def test_the_examples_of_a_page_are_valid_and_name_clouds_that_are_there(page: Path) -> None:
    found = files(page)
    assert found, "each page has an example"
    assert [doubt for file in found for doubt in unknown_clouds(file.located, CLOUDS)] == []


@pytest.mark.usefixtures("carbon")
@EACH
def test_the_planner_does_with_the_examples_what_the_page_says(page: Path) -> None:
    (said,) = blocks(page, "text")
    assert said == effect(page)


def test_in_the_small_world_there_is_nothing_to_be_done() -> None:
    everything = parse_policy(b"policy: p", "p.yaml").policy
    result = make_plan(small_world(), [everything], trigger="an example")
    assert isinstance(result, NoPlan)
    assert result.reason.startswith("no rule is broken, and no other placement is cheaper")


def test_each_rule_and_each_part_of_a_policy_has_a_page() -> None:
    there = {page.stem for page in PAGES.glob("*.md")}
    parts = PolicySchema.model_fields.keys() - {"policy", "applies_to", "mode", "rules"}
    assert RuleSchema.model_fields.keys() | parts <= there


def test_the_index_leads_to_each_page() -> None:
    text = INDEX.read_text("utf-8")
    for page in PAGES.glob("*[a-z].md"):
        assert f"({page.name})" in text
