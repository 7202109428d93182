"""Pairs of addresses keep their numbers, however many there are and wherever they meet in the table."""

import os

import numpy as np
import pytest

from transhume.monitor.capture.scan.counts import PAIRS, WORDS, Counts
from transhume.monitor.capture.scan.vectors.known_pairs import KnownPairs

MANY = 30_000
"""More than the table has room for at first."""


def rows(*firsts: int) -> np.ndarray:
    """Return rows whose words add up to the same."""
    words = np.zeros((len(firsts), WORDS), dtype=np.uint64)
    words[:, 0] = firsts
    words[:, 5] = 2 * MANY - words[:, 0]
    return words


def numbers(known: KnownPairs, *firsts: int) -> list[int]:
    found: list[int] = known.numbers(rows(*firsts), np.arange(len(firsts))).tolist()
    return found


def test_a_row_has_one_number_from_its_first_sight_on() -> None:
    known = KnownPairs(Counts(1))

    assert numbers(known, 5, 3, 5, 4) == [0, 1, 0, 2]
    assert numbers(known, 4, 9, 3) == [2, 3, 1]


def test_strangers_are_numbered_in_the_order_in_which_they_were_met() -> None:
    known = KnownPairs(Counts(1))

    assert known.numbers(rows(7, 8, 9), np.array([4, 0, 2])).tolist() == [2, 0, 1]


def test_more_pairs_than_the_table_had_room_for_keep_their_numbers() -> None:
    counts = Counts(1)
    known = KnownPairs(counts)

    first = numbers(known, *range(MANY // 2))
    assert numbers(known, *range(MANY)) == list(range(MANY))
    assert first == list(range(MANY // 2))
    assert counts.state[PAIRS] == MANY
    assert np.array_equal(counts.rows[:MANY], rows(*range(MANY)))


def test_rows_that_all_meet_in_one_place_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody could guess what words are multiplied by; it's only slower then."""
    monkeypatch.setattr(os, "urandom", bytes)
    known = KnownPairs(Counts(1))

    assert numbers(known, *range(500)) == list(range(500))
    assert numbers(known, *reversed(range(500))) == list(reversed(range(500)))


def test_numbers_are_learnt_anew_from_what_is_counted() -> None:
    counts = Counts(1)
    numbers(KnownPairs(counts), 5, 6)

    assert numbers(KnownPairs(counts), 6, 7, 5) == [1, 2, 0]
