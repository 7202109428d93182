from hashlib import sha256

import numpy as np

from transhume.execute.migration.content.page_index import PageIndex
from transhume.execute.migration.content.references import Space, reference


def digest(number: int) -> bytes:
    return sha256(str(number).encode()).digest()


def index_of(*numbers: int) -> PageIndex:
    index = PageIndex()
    for number in numbers:
        index.look_up([digest(number)], owner=number % 3)
    return index


def test_a_page_is_found_where_it_was_added_and_says_whose_it_was() -> None:
    index = index_of(10, 11, 12)
    assert index.find(digest(11)) == reference(Space.LOG, 1)
    whole = np.array(
        [reference(Space.LOG, 1), reference(Space.LOG, 2), reference(Space.REVERSE, 2)]
    )
    assert index.count_owned(whole, owner=11 % 3) == (1, 1)
    assert index.find(digest(13)) is None


def test_new_pages_get_positions_in_order_and_are_known_at_once() -> None:
    index = index_of(1)
    is_new, references = index.look_up([digest(n) for n in (2, 1, 2, 3)], owner=7)
    assert is_new.tolist() == [True, False, False, True]
    assert references.tolist() == [reference(Space.LOG, 0), reference(Space.LOG, 1)]
    assert index.find(digest(3)) == reference(Space.LOG, 2)


def test_forgotten_entries_are_not_found_and_the_others_keep_their_positions() -> None:
    index = index_of(*range(10))
    index.forget_below(4)
    assert [index.find(digest(n)) for n in range(4)] == [None] * 4
    assert index.find(digest(4)) == reference(Space.LOG, 4)
    assert index.count_owned(np.array([reference(Space.LOG, 9)]), owner=0) == (1, 0)
    assert (index.first, index.next) == (4, 10)


def test_truncated_entries_are_not_found() -> None:
    index = index_of(*range(10))
    index.truncate(7)
    assert index.find(digest(7)) is None
    assert index.find(digest(6)) == reference(Space.LOG, 6)
    index.look_up([digest(99)], owner=0)
    assert index.find(digest(99)) == reference(Space.LOG, 7)


def test_what_is_known_elsewhere_does_not_hide_what_was_sent() -> None:
    index = index_of(1, 2)
    index.add_elsewhere(Space.REVERSE, [digest(2), digest(3)], start=100)
    assert index.find(digest(2)) == reference(Space.LOG, 1)
    assert index.find(digest(3)) == reference(Space.REVERSE, 101)


def test_a_space_is_dropped_whole_or_below_an_index() -> None:
    index = index_of(1)
    index.add_elsewhere(Space.REVERSE, [digest(2), digest(3)], start=100)
    index.add_elsewhere(Space.FIRST_CATALOGUE, [digest(4)])
    index.drop_space(Space.REVERSE, below=101)
    assert index.find(digest(2)) is None
    assert index.find(digest(3)) == reference(Space.REVERSE, 101)
    index.drop_space(Space.REVERSE)
    assert index.find(digest(3)) is None
    assert index.find(digest(4)) == reference(Space.FIRST_CATALOGUE, 0)
    index.add_elsewhere(Space.RESIDENTS, [digest(5)])
    index.drop_listed()
    assert index.find(digest(5)) is None
    assert index.find(digest(4)) is None
    assert index.find(digest(1)) == reference(Space.LOG, 0)


def test_forgetting_leaves_what_was_added_again_later() -> None:
    index = index_of(1)
    index.forget_below(1)
    index.look_up([digest(1)], owner=0)
    index.forget_below(1)
    assert index.find(digest(1)) == reference(Space.LOG, 1)
