"""The text of plans: what a person has to know is in it."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from tests.unit.plan.scenario import (
    NAMES,
    ON_BLAST,
    blast,
    planned,
    policy,
    two_clusters,
    unplanned,
    web,
)
from tests.unit.plan.worlds import moved, notice, price
from transhume.cli.views.plans import decision
from transhume.plan import explain_no_plan, explain_plan
from transhume.policies.model import ElectiveLimits


def flat(lines: list[str]) -> str:
    """Return lines as one, as if none had been broken."""
    return " ".join(" ".join(lines).split())


def test_a_plan_tells_the_money_the_reasons_and_the_moves() -> None:
    text = flat(explain_plan(planned(two_clusters(), policy(applies_to=ON_BLAST))))

    for part in (
        "3 moves because a test",
        "saves $0.45/h (75%), what the moves cost included; optimal (proved)",
        "1. vm1: a1 (a) to b1 (b), it pays: group of vm1, vm3, vm5 runs 75 % cheaper in b",
        "a asks $0.20 per vCPU-hour, b $0.05",
        "70.5 MB, 6.6s, paused for about 500ms, $0.0036 once, $0.0010 more while its group is split, "
        "saves $0.15/h, paid for after 1m 48s",
        "2. vm3: a1 (a) to b1 (b), it pays: for the same reason",
        "in all: 211 MB, $0.0135 once",
        "compute: $0.60/h now, $0.15/h then",
        "migration: $0.00/h now, $0.0023/h then (once, spread over 6h)",
        "total: $0.60/h now",
    ):
        assert part in text


def test_memory_is_named_where_its_price_makes_the_difference() -> None:
    prices = (price("a", 0.05, gib=1.0), price("b", 0.05, gib=0.2))

    plan = planned(two_clusters(prices=prices), policy())

    assert "a asks $1.00 per GiB-hour, b $0.20" in plan.steps[0].reason


def test_an_evacuation_tells_deadlines_and_who_is_left() -> None:
    fleeing = two_clusters(notices=[notice("a", 120)], room={"a1": 6, "b1": 3})

    text = flat(explain_plan(planned(fleeing, policy())))

    assert "must: group of" in text
    assert "by 12:02:00 UTC" in text
    assert "risk: $10.00/h now, $5.00/h then" in text
    assert "not as it should be:" in text
    assert "b has 0 free vCPUs" in text


def test_a_plan_for_the_rules_sake_tells_what_it_costs() -> None:
    apart = two_clusters(
        placement={"a1": blast, "b1": web},
        room={"a1": 3, "b1": 3, "c1": 6},
        prices=(price("a", 0.05), price("b", 0.05), price("c", 0.5)),
        notices=[notice("a", 9 * 3600)],
    )

    text = flat(explain_plan(planned(apart, policy())))

    assert "more, for the rules' sake" in text


def test_no_plan_tells_the_limit_and_the_alternative() -> None:
    resting = two_clusters(outcomes=[moved(name, ago=60) for name in NAMES])
    nothing = unplanned(resting, policy(elective=ElectiveLimits(cooldown_seconds=3600)))

    lines = explain_no_plan(nothing)
    text = flat(lines)

    assert text.startswith("nothing to do: moving vm1, vm2, vm3, vm4, vm5, vm6 to b would save")
    assert "the bill now: $1.20/h (compute $1.20/h)" in lines
    assert "the best alternative: $0.30/h" in text
    assert (
        "vm1, vm3, vm5: b would save $0.45/h, 3 VMs moving as one, but vm1, vm3, vm5 moved" in text
    )


def test_a_guest_that_writes_faster_than_it_is_sent_is_told_of_and_its_move_isnt_promised() -> None:
    known = two_clusters()
    busy = {
        name: replace(vm, dirty_bytes_per_second=1e9 if name == "vm3" else 1e3)
        for name, vm in known.vms.items()
    }
    plan = planned(replace(known, vms=busy), policy(applies_to=ON_BLAST))

    assert {step.vm: step.prediction.converges for step in plan.steps} == {
        "vm1": True,
        "vm3": False,
        "vm5": True,
    }
    text = flat(explain_plan(plan))
    assert text.count("ends only if the guest is slowed or starts there early") == 1


def test_a_busy_guests_move_is_marked_in_the_list_of_moves() -> None:
    known = two_clusters()
    busy = {name: replace(vm, dirty_bytes_per_second=1e9) for name, vm in known.vms.items()}
    plan = planned(replace(known, vms=busy), policy(applies_to=ON_BLAST))

    console = Console(file=StringIO(), width=200)
    console.print(decision(plan))
    assert isinstance(console.file, StringIO)
    assert "vm1, vm3, vm5: ends only if" in console.file.getvalue()
