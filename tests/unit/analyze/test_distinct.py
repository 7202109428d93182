"""Equal rows are found, and different ones never taken for equal, whatever their hashes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from transhume.analyze import address_table, distinct
from transhume.analyze.address_table import AddressTable
from transhume.knowledge.model import ADDRESS_PAIR

WORDS = arrays.arrays(
    np.uint64, st.tuples(st.integers(0, 30), st.just(3)), elements=st.integers(0, 2)
)
KEYS = st.one_of(
    arrays.arrays(np.int64, st.integers(0, 50), elements=st.integers(-3, 3)),
    arrays.arrays(np.int64, st.integers(0, 50), elements=st.integers(0, 2**63 - 1)),
    arrays.arrays(
        np.uint64, st.integers(0, 50), elements=st.sampled_from([0, 1, 2, 2**63, 2**63 + 1])
    ),
)


def constant(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.zeros(len(words), dtype=np.uint64)


@given(WORDS)
def test_rows_are_distinct_when_a_word_differs(words: NDArray[np.uint64]) -> None:
    first, which = distinct.distinct(words)

    assert (words[first][which] == words).all()
    assert len({row.tobytes() for row in words}) == len(first)


def test_rows_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "hashes", constant)
    words = np.array([[1, 2], [3, 4], [1, 2]], dtype=np.uint64)

    first, which = distinct.distinct(words)

    assert (words[first][which] == words).all()
    assert len(first) == 2


@given(KEYS)
def test_keys_are_put_in_order_and_equal_ones_left_as_they_stand(keys: NDArray[np.int64]) -> None:
    order, starts = distinct.runs(keys)

    assert order.tolist() == np.argsort(keys, kind="stable").tolist()
    assert int(starts.sum()) == len(set(keys.tolist()))


@given(KEYS)
def test_columns_add_up_by_key(keys: NDArray[np.int64]) -> None:
    numbers = np.arange(len(keys))

    found, (sums,) = distinct.added(keys, [numbers])

    expected = {key: int(numbers[keys == key].sum()) for key in sorted(set(keys.tolist()))}
    assert dict(zip(found.tolist(), sums.tolist(), strict=True)) == expected
    assert list(expected) == found.tolist()


ROWS = st.lists(
    st.lists(st.integers(0, 5), max_size=20).map(
        lambda numbers: np.array(
            [(0, 0, 4, 3, number, 0, number) for number in numbers], dtype=ADDRESS_PAIR
        )
    ),
    max_size=5,
)


@pytest.mark.parametrize("weak", [False, True], ids=["hashed", "all hashes equal"])
@given(parts=ROWS)
def test_a_row_has_one_number_however_often_it_comes(
    weak: bool, parts: list[NDArray[np.void]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if weak:
            patch.setattr(address_table, "hashes", constant)
        table = AddressTable()
        for rows in parts:
            numbers = table.numbers(rows)
            assert (table.rows[numbers]["destination_ip"] == rows["destination_ip"]).all()
        seen = {row.tobytes() for rows in parts for row in rows["destination_ip"]}
        assert len(table) == len({row.tobytes() for row in table.rows}) == len(seen)


def test_an_array_that_comes_again_is_not_looked_up_again() -> None:
    table, rows = AddressTable(), np.zeros(1, dtype=ADDRESS_PAIR)

    assert table.numbers(rows) is table.numbers(rows)


def test_the_interface_is_no_part_of_a_row() -> None:
    """The capture point tells it; the pair is the same."""
    rows = np.zeros(2, dtype=ADDRESS_PAIR)
    rows["interface"] = [0, 7]

    assert AddressTable().numbers(rows).tolist() == [0, 0]
