"""Rules in Python, as a package that is really installed brings them: the shipped example, and bad ones."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plan.scenario import EAGER, planned, unplanned, ways
from tests.unit.plan.worlds import notice, price, vm, world
from transhume.errors import InvalidFile
from transhume.knowledge.model import MoveKind, Snapshot
from transhume.plan import find_faults
from transhume.policies.book import PolicyBook
from transhume.policies.loader import load_policy, parse_policy
from transhume.policies.model import Policy, Python
from transhume.policies.summary import summarize

EXAMPLE = Path(__file__).parents[3] / "examples" / "carbon-rule"

BAD_RULES = """\
from transhume.policies.extension import Verdict

class Fails:
    def __init__(self, parameters):
        self.how = parameters.get("how", "raise")

    def judge(self, view):
        if self.how == "exit":
            raise SystemExit(3)
        if self.how == "nonsense":
            return {"forbidden": []}
        if self.how == "infinite":
            return Verdict(dollars_per_hour={(view.vms[0].name, "a"): float("inf")})
        if self.how == "others":
            return Verdict(forbidden={("stranger", "a"): "it is nobody's business"})
        if self.how == "write":
            view.snapshot.placement.host_of[view.vms[0].name] = "b1"
        return 1 / 0

def refuses(parameters):
    raise RuntimeError("not today")
"""


def install(folder: Path, package: str, module: Path | str, points: dict[str, str]) -> None:
    """Put a package where Python finds it, as pip leaves it."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[transhume.policies]", *lines]))
    name = next(iter(points.values())).partition(":")[0]
    text = module if isinstance(module, str) else module.read_text("utf-8")
    (folder / f"{name}.py").write_text(text, "utf-8")


@pytest.fixture
def carbon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    points = project["entry-points"]["transhume.policies"]
    install(tmp_path / "site", project["name"], EXAMPLE / "transhume_carbon.py", points)
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Policy]:
    points = {"fails": "bad_rules:Fails", "refuses": "bad_rules:refuses", "gone": "no_module:x"}
    install(tmp_path / "site", "bad-rules", BAD_RULES, points)
    monkeypatch.syspath_prepend(tmp_path / "site")

    def policy(how: str = "raise", **changes: Any) -> Policy:
        text = f"policy: own\nrules:\n  - python: {{name: fails, how: {how}}}"
        return replace(parse_policy(text.encode(), "p.yaml").policy, elective=EAGER, **changes)

    return policy


def campus(host: str, **changes: Any) -> Snapshot:
    known: dict[str, Any] = {
        "room": {"campus1": 4, "rented-us1": 4, "rented-asia1": 4},
        "prices": [price(cloud, 0.05) for cloud in ("campus", "rented-us", "rented-asia")],
    }
    return world({host: [vm("web1"), vm("web2")]}, **(known | changes))


def green() -> Policy:
    return replace(load_policy(EXAMPLE / "green.yaml"), elective=EAGER)


# --- the example that is shipped -----------------------------------------------------------------


@pytest.mark.usefixtures("carbon")
def test_the_example_moves_vms_out_of_what_it_forbids_to_what_weighs_least() -> None:
    plan = planned(campus("rented-asia1"), green())

    assert ways(plan) == {"web1": "campus", "web2": "campus"}
    assert {step.kind for step in plan.steps} == {MoveKind.MANDATORY}
    why = "policy green forbids rented-asia to web1 (carbon: 720 g/kWh are more than 600)"
    assert why in plan.steps[0].reason
    assert find_faults(campus("rented-asia1"), [green()], plan.steps) == ()


@pytest.mark.usefixtures("carbon")
def test_what_the_example_weighs_is_a_wish_and_billed_by_nobody() -> None:
    free = campus("rented-us1", prices=[price(c, 0.0) for c in ("campus", "rented-us")])

    plan = planned(free, green())

    assert {step.kind for step in plan.steps} == {MoveKind.ELECTIVE}
    assert plan.before.preference == pytest.approx(2 * 0.012 * 0.38 * 0.20)
    assert plan.before.compute == plan.after.compute == 0
    assert "policy green (carbon) weighs campus less than rented-us" in plan.steps[0].reason


@pytest.mark.usefixtures("carbon")
def test_the_checker_asks_the_rule_by_itself() -> None:
    anywhere = Policy(name="any", source="test", elective=EAGER)
    cheap = [price("campus", 0.5), price("rented-us", 0.5), price("rented-asia", 0.01)]
    plan = planned(campus("campus1", prices=cheap), anywhere)

    assert find_faults(campus("campus1", prices=cheap), [green()], plan.steps) == (
        "green (carbon) forbids rented-asia to web1",
        "green (carbon) forbids rented-asia to web2",
    )


@pytest.mark.usefixtures("carbon")
def test_parameters_that_the_rule_refuses_are_a_mistake_with_its_place() -> None:
    with pytest.raises(InvalidFile) as refused:
        parse_policy(b"policy: p\nrules:\n  - python: {name: carbon}", "p.yaml")
    assert str(refused.value).startswith(
        "p.yaml:3:20: rules[0].python: rule carbon: ValueError: grams_per_kwh is missing"
    )


@pytest.mark.usefixtures("carbon")
def test_the_summary_names_it_and_equal_files_are_equal_policies() -> None:
    assert "also for rules in Python to say: carbon." in summarize(green())
    assert green() == green()
    (rule,) = green().rules
    assert isinstance(rule, Python)
    assert rule.parameters["most_grams_per_kwh"] == 600


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "no installed package brings a rule nowhere; install the one that does"),
        ("refuses", "rule refuses: RuntimeError: not today"),
        ("gone", "rule gone: ModuleNotFoundError: No module named 'no_module'"),
    ],
)
def test_a_rule_that_cannot_be_made_is_a_mistake_with_its_place(name: str, said: str) -> None:
    text = f"policy: p\nrules:\n  - python: {{name: {name}}}"
    with pytest.raises(InvalidFile) as refused:
        parse_policy(text.encode(), "p.yaml")
    assert str(refused.value).startswith(f"p.yaml:3:20: rules[0].python: {said}")


@pytest.mark.usefixtures("failing")
def test_a_rule_that_cannot_be_made_leaves_the_policies_from_before_in_force(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("policy: p")
    book = PolicyBook([path])
    path.write_text("policy: p\nmode: auto\nrules:\n  - python: {name: refuses}")

    change = book.refresh()

    assert change is not None
    assert "rule refuses" in change.mistakes[0].message
    assert book.policies == (Policy(name="p", source=str(path)),)


CHEAP = (price("a", 0.5), price("b", 0.01))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "python rule fails failed: ZeroDivisionError: division by zero"),
        ("exit", "python rule fails failed: SystemExit: 3"),
        ("nonsense", "python rule fails failed: TypeError: judge returned dict; it must return"),
        ("infinite", "python rule fails failed: ValueError: dollars_per_hour holds what is no"),
        ("write", "python rule fails failed: TypeError: 'mappingproxy' object does not support"),
    ],
)
def test_the_vms_of_a_rule_that_fails_stay_and_the_decision_says_why(
    failing: Callable[..., Policy], how: str, said: str
) -> None:
    here = world({"a1": [vm("vm1")]}, room={"a1": 2, "b1": 2}, prices=CHEAP)

    nothing = unplanned(here, failing(how))

    assert nothing.reason.startswith(f"policy own: {said}")
    assert nothing.reason.endswith("its VMs stay where they are")
    assert nothing.unplaced.keys() == {"vm1"}


def test_a_failing_rule_hinders_no_vms_but_its_policys(failing: Callable[..., Policy]) -> None:
    from transhume.policies.model import Selector

    there = {"a1": [vm("vm1"), vm("vm2")]}
    here = world(there, room={"a1": 2, "b1": 2}, prices=CHEAP, notices=[notice("a", 600)])
    own = failing(applies_to=Selector(vms=("vm1",)))
    other = Policy(name="other", source="test", elective=EAGER)

    plan = planned(here, own, other)

    assert ways(plan) == {"vm2": "b"}
    assert "python rule fails failed" in plan.unplaced[next(iter(plan.unplaced))]
    assert find_faults(here, [other, own], plan.steps) == ()


def test_what_a_rule_says_of_others_vms_is_not_heard(failing: Callable[..., Policy]) -> None:
    here = world({"a1": [vm("vm1")]}, room={"a1": 2, "b1": 2}, prices=CHEAP)

    assert ways(planned(here, failing("others"))) == {"vm1": "b"}
