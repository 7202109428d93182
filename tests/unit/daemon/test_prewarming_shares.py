"""What of a budget is for which VM, in bytes and in money."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.daemon.prewarming_shares import Claim, Spent, Way, share_out
from transhume.deployment.model import PrewarmBudget
from transhume.knowledge.model import BYTES_PER_GB, CloudName, VmName

GB = BYTES_PER_GB
AMPLE = 1 << 50


def way(vm: str) -> Way:
    return Way(VmName(vm), CloudName("a"), CloudName("b"))


def claim(vm: str, memory_gb: float, price: float | None) -> Claim:
    return Claim(way=way(vm), memory_bytes=int(memory_gb * GB), dollars_per_gb=price)


def shares(
    dollars: float | None,
    *claims: Claim,
    most_bytes: int = AMPLE,
    spent: dict[Way, Spent] | None = None,
) -> list[int]:
    budget = PrewarmBudget(bytes_per_vm=most_bytes, dollars=dollars)
    found = share_out(budget, claims, spent or {})
    return [found[each.way] for each in claims]


def test_money_is_shared_out_in_proportion_to_memory() -> None:
    got = shares(0.40, claim("small", 1, 0.1), claim("large", 3, 0.1))
    assert got == pytest.approx([1 * GB, 3 * GB], abs=1)


def test_the_same_money_is_fewer_bytes_where_egress_is_dearer() -> None:
    got = shares(0.40, claim("cheap", 1, 0.1), claim("dear", 1, 0.2))
    assert got == pytest.approx([2 * GB, 1 * GB], abs=1)


def test_the_lower_of_the_two_limits_counts() -> None:
    got = shares(0.40, claim("small", 1, 0.1), claim("large", 3, 0.1), most_bytes=int(2 * GB))
    assert got == pytest.approx([1 * GB, 2 * GB], abs=1)


def test_where_egress_costs_nothing_money_is_no_limit_and_no_part_of_it_is_taken() -> None:
    got = shares(0.10, claim("free", 9, 0.0), claim("billed", 1, 0.1), most_bytes=int(2 * GB))
    assert got == pytest.approx([2 * GB, 1 * GB], abs=1)


def test_where_nobody_tells_a_price_nothing_is_sent_for_money() -> None:
    assert shares(0.10, claim("untold", 1, None)) == [0]


def test_without_a_limit_in_money_prices_make_no_difference() -> None:
    got = shares(None, claim("untold", 1, None), claim("dear", 1, 9.0), most_bytes=1000)
    assert got == [1000, 1000]


def test_what_was_spent_is_the_plans_and_bytes_are_each_vms() -> None:
    spent = {way("first"): Spent(int(GB), 0.1)}
    claims = claim("first", 1, 0.1), claim("second", 1, 0.1)
    assert shares(0.30, *claims, spent=spent) == pytest.approx([GB, GB], abs=1)
    assert shares(0.30, *claims, spent=spent, most_bytes=int(1.5 * GB)) == pytest.approx(
        [0.5 * GB, GB], abs=1
    )
    assert shares(0.05, *claims, spent=spent) == [0, 0]


def test_a_vm_that_is_gone_has_no_memory_and_no_part() -> None:
    assert shares(0.10, claim("gone", 0, 0.1)) == [0]


@given(
    dollars=st.floats(0.01, 100),
    asked=st.lists(st.tuples(st.floats(0, 512), st.floats(0.001, 1)), min_size=1, max_size=12),
    rounds=st.integers(1, 4),
)
def test_however_often_it_is_shared_out_all_together_never_cost_more(
    dollars: float, asked: list[tuple[float, float]], rounds: int
) -> None:
    claims = [claim(f"vm{n}", memory, price) for n, (memory, price) in enumerate(asked)]
    budget = PrewarmBudget(bytes_per_vm=AMPLE, dollars=dollars)
    spent: dict[Way, Spent] = {}
    for _ in range(rounds):
        got = share_out(budget, claims, spent)
        for each in claims:
            so_far = spent.get(each.way, Spent())
            spent[each.way] = so_far.and_also(got[each.way], each.dollars_per_gb)
    assert sum(each.dollars for each in spent.values()) <= dollars * 1.000001
