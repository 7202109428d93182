"""What finding the words for a plan takes: as much for each VM, however many there are."""

import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.unit.plan.scenario import policy
from tests.unit.plan.worlds import MB, group, price, traffic, vm, world
from transhume.plan.formulate import Formulator
from transhume.plan.money import Bill
from transhume.plan.reasons import Narrator
from transhume.plan.rules import read_rules
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation


def lines_of(work: Callable[[], object]) -> int:
    """Return how many lines of the planner are run by some work."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace if "transhume/plan" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def joining(pairs: int, words: str) -> int:
    """Return what the reasons take of so many VMs, each of which joins the one that it talks to."""
    movers, mates = ([f"{kind}{n}" for n in range(pairs)] for kind in ("mover", "mate"))
    ways = list(zip(movers, mates, strict=True))
    known = world(
        {"a1": [vm(name) for name in movers], "b1": [vm(name) for name in mates]},
        room={"a1": 2 * pairs, "b1": 2 * pairs},
        prices=[price("a", 0.05), price("b", 0.05)],
        matrix=traffic([*movers, *mates], dict.fromkeys(ways, 2 * MB)),
        groups=[group(f"g-{one}", one, other) for one, other in ways],
    )
    situation = Situation.read(known, [policy()], PlannerSettings())
    bill = Bill.of(situation)
    ruling = read_rules(situation, bill)
    going = [situation.number[vm(name).name] for name in movers]
    ruling = replace(ruling, must_leave=dict.fromkeys(going, "it must go"))
    narrator = Narrator(formulator=Formulator(situation=situation, bill=bill, ruling=ruling))
    after = np.where(np.isin(np.arange(len(situation.vms)), going), 1, situation.home)

    def tell() -> None:
        for number in going:
            if words == "elective":
                told = narrator.elective(number, (number,), situation.home, after)
                assert "joins mate" in told
            else:
                assert "must go" in narrator.mandatory(number, after)

    return lines_of(tell)


@pytest.mark.parametrize("words", ["elective", "mandatory"])
def test_twice_as_many_vms_take_twice_as_many_words(words: str) -> None:
    assert joining(200, words) < 3 * joining(100, words)
