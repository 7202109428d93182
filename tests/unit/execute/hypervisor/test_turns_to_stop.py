"""Guests that move over the same link at the same time are stopped one after the other."""

from transhume.execute.hypervisor.turns_to_stop import PATIENCE_SECONDS, Turn, TurnsToStop
from transhume.knowledge.model import CloudName

LINK = CloudName("campus"), CloudName("rented")
BACK = LINK[1], LINK[0]
LIMIT_SECONDS = 0.3
TOO_LONG = PATIENCE_SECONDS + LIMIT_SECONDS


def three() -> tuple[TurnsToStop, Turn, Turn, Turn]:
    turns = TurnsToStop()
    first, second, third = (turns.join(LINK, LIMIT_SECONDS) for _ in range(3))
    return turns, first, second, third


def test_alone_it_may_stop_at_once() -> None:
    _, first, _, _ = three()
    assert first.may_stop(0.0, fits=True)
    assert first.may_stop(9.0, fits=True), "and still later on"


def test_whose_rest_doesnt_fit_may_not_stop_and_is_in_nobodys_way() -> None:
    _, first, second, _ = three()
    assert not first.may_stop(0.0, fits=False)
    assert second.may_stop(0.0, fits=True)


def test_who_asked_first_goes_first() -> None:
    _, first, second, third = three()
    assert second.may_stop(0.0, fits=True)
    assert not third.may_stop(0.1, fits=True)
    assert not first.may_stop(0.2, fits=True)
    second.end()
    assert not first.may_stop(0.3, fits=True), "the third asked before it"
    assert third.may_stop(0.4, fits=True)
    third.end()
    assert first.may_stop(0.5, fits=True)


def test_a_turn_ends_when_what_is_left_doesnt_fit_any_more() -> None:
    _, first, second, _ = three()
    assert first.may_stop(0.0, fits=True)
    assert not second.may_stop(0.1, fits=True)
    assert not first.may_stop(0.2, fits=False)
    assert second.may_stop(0.3, fits=True)
    assert not first.may_stop(0.4, fits=True), "it waits for a new one"


def test_the_turn_of_a_guest_that_stands_still_goes_on() -> None:
    """What its hypervisor counts anew when it stops it may be more than was reckoned with."""
    _, first, second, _ = three()
    assert first.may_stop(0.0, fits=True)
    assert first.may_stop(0.1, fits=False, stands_still=True)
    assert not second.may_stop(0.2, fits=True)


def test_a_guest_that_stands_still_without_a_turn_gets_none_by_that() -> None:
    _, first, second, _ = three()
    assert not first.may_stop(0.0, fits=False, stands_still=True)
    assert second.may_stop(0.1, fits=True)


def test_after_some_patience_the_next_may_stop_beside_who_doesnt_get_through() -> None:
    _, first, second, third = three()
    assert first.may_stop(0.0, fits=True)
    assert not second.may_stop(TOO_LONG - 0.1, fits=True)
    assert second.may_stop(TOO_LONG, fits=True)
    assert first.may_stop(TOO_LONG + 0.1, fits=True), "it keeps its limit"
    first.end()
    assert not third.may_stop(TOO_LONG + 0.2, fits=True), "the second has its turn"


def test_a_guest_that_may_stand_still_for_long_has_that_time() -> None:
    turns = TurnsToStop()
    slow, second = turns.join(LINK, 10.0), turns.join(LINK, LIMIT_SECONDS)
    assert slow.may_stop(0.0, fits=True)
    assert not second.may_stop(9.9, fits=True)


def test_who_doesnt_ask_any_more_is_waited_for_by_nobody_and_keeps_its_place() -> None:
    _, first, second, third = three()
    assert first.may_stop(0.0, fits=True)
    assert not second.may_stop(0.1, fits=True)
    first.end()
    assert not third.may_stop(0.9, fits=True)
    assert third.may_stop(1.2, fits=True)
    third.end()
    assert second.may_stop(1.3, fits=True)


def test_links_have_nothing_to_do_with_each_other() -> None:
    turns, first, second, _ = three()
    assert first.may_stop(0.0, fits=True)
    assert not second.may_stop(0.0, fits=True)
    assert turns.join(BACK, LIMIT_SECONDS).may_stop(0.0, fits=True)
    assert turns.join(None, LIMIT_SECONDS).may_stop(0.0, fits=True)
    assert turns.join(None, LIMIT_SECONDS).may_stop(0.0, fits=True), "each for itself"


def test_moves_that_have_ended_leave_nothing_behind() -> None:
    turns, first, second, third = three()
    for each in (first, second):
        each.may_stop(0.0, fits=True)
    for each in (first, second, third, third):
        each.end()
    assert turns.asking == []
