"""The checker by itself, on an instance small enough to be counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from transhume.plan.scale import Cases, Certificate, Instance, certified_bound, is_feasible


def two_talkers(**changed: object) -> Instance:
    """Two VMs that talk, two clouds; the second is cheaper, but has room for one."""
    instance = Instance(
        unary=np.array([[10, 4], [10, 4]]),
        allowed=np.ones((2, 2), dtype=np.bool_),
        pairs=np.array([[0, 1]]),
        traffic=np.array([[3, 2]]),
        apart=np.array([False]),
        price=np.array([[0, 1], [2, 0]]),
        size=np.array([[1], [1]]),
        capacity=np.array([[2], [1]]),
        home=np.array([0, 0]),
        machines=np.array([1, 1]),
        move_limit=2,
    )
    return replace(instance, **changed)  # type: ignore[arg-type]


def certificate(**changed: object) -> Certificate:
    plain = Certificate(
        fraction_bits=0,
        room_price=np.zeros((2, 1), dtype=np.int64),
        move_price=0,
        messages=np.zeros((1, 2, 2), dtype=np.int64),
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def test_by_cases_the_lesser_of_what_both_prove_is_proved() -> None:
    instance = two_talkers()
    cases = Cases(
        vm=0,
        clouds=np.array([True, False]),
        inside=certificate(),
        outside=certificate(),
    )
    here, there = instance.allowed.copy(), instance.allowed.copy()
    here[0], there[0] = [True, False], [False, True]
    each = [certified_bound(instance, certificate(), allowed) for allowed in (here, there)]
    assert certified_bound(instance, cases) == min(each)
    assert min(each) < max(each)


def test_a_case_that_cannot_be_does_not_lessen_what_is_proved() -> None:
    nowhere = Cases(
        vm=1, clouds=np.array([False, False]), inside=certificate(), outside=certificate()
    )
    assert certified_bound(two_talkers(), nowhere) == certified_bound(two_talkers(), certificate())


def test_saying_nothing_proves_the_sum_of_what_each_costs_at_least() -> None:
    assert certified_bound(two_talkers(), certificate()) == 8


def test_a_price_of_room_makes_the_full_cloud_dearer_for_all_but_what_it_holds() -> None:
    """Two VMs at 4 + 6 each, less the 6 that the room for one is worth."""
    priced = certificate(room_price=np.array([[0], [6]]))
    assert certified_bound(two_talkers(), priced) == 14


def test_messages_carry_costs_from_pairs_to_vms() -> None:
    """The best is to stay: 20. Splitting costs 3·1 + 2·2 = 7 or 3·2 + 2·1 = 8."""
    priced = certificate(room_price=np.array([[0], [6]]), messages=np.array([[[3, -3], [-3, 3]]]))
    assert certified_bound(two_talkers(), priced) <= 20
    assert min(two_talkers().cost(np.array(at)) for at in ((0, 0), (0, 1), (1, 0))) == 20


def test_a_limit_on_moves_has_a_price_too() -> None:
    still = two_talkers(move_limit=0)
    assert certified_bound(still, certificate(move_price=6)) == 20


def test_fractions_are_rounded_up_as_costs_are_whole() -> None:
    """A move price of 1/4: two moves at most; 2·(4 + 1/4) - 1/4 = 8 1/4 is as good as 9."""
    limited = two_talkers(move_limit=1)
    assert certified_bound(limited, certificate(fraction_bits=2, move_price=1)) == 9


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"room_price": np.array([[0], [-1]])}, id="room"),
        pytest.param({"move_price": -1}, id="moves"),
    ],
)
def test_negative_prices_are_refused(changed: dict[str, object]) -> None:
    """They would prove anything: an assignment that leaves room would pay for it."""
    with pytest.raises(ValueError, match="must not be negative"):
        certified_bound(two_talkers(), certificate(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"fraction_bits": 60}, id="fractions"),
        pytest.param({"messages": np.full((1, 2, 2), 2**61)}, id="messages"),
        pytest.param({"messages": np.full((1, 2, 2), -(2**63))}, id="most negative"),
        pytest.param({"room_price": np.full((2, 1), 2**62)}, id="room"),
        pytest.param({"move_price": 2**62}, id="moves"),
    ],
)
def test_numbers_that_could_overflow_are_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="too large"):
        certified_bound(two_talkers(), certificate(**changed))


@pytest.mark.parametrize(
    ("assignment", "changed"),
    [
        pytest.param([1, 1], {}, id="no room"),
        pytest.param([0, 1], {"move_limit": 0}, id="too many moves"),
        pytest.param([0, 1], {"allowed": np.array([[True, True], [True, False]])}, id="barred"),
        pytest.param([0, 2], {}, id="no such cloud"),
    ],
)
def test_what_breaks_a_limit_is_not_feasible(
    assignment: list[int], changed: dict[str, object]
) -> None:
    assert not is_feasible(two_talkers(**changed), np.array(assignment))
    assert is_feasible(two_talkers(**changed), np.array([0, 0]))


def test_who_must_be_apart_may_not_be_together() -> None:
    apart = two_talkers(home=np.array([0, 1]), apart=np.array([True]))
    assert is_feasible(apart, np.array([1, 0]))
    assert not is_feasible(apart, np.array([0, 0]))
    assert certified_bound(apart, certificate()) == 8 + 7  # one way round costs 7, the other 8
