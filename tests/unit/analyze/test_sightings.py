"""Sightings add windows up, in slices that grow where there is too much to remember."""

import pickle
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests.unit.analyze.traffic import START, claim, end, ip, mac, outside, packed, sent, window
from transhume.analyze import Sightings
from transhume.knowledge.model import Endpoint, TrafficWindow


def sightings(*windows: TrafficWindow, rows: int = 1000, slices: int = 100) -> Sightings:
    found = Sightings(1.0, most_rows=rows, most_slices=slices)
    for each in windows:
        found.add(each)
    return found


def seen(found: Sightings) -> list[tuple[float, str, int]]:
    """Return when, where and how many bytes, in order."""
    return [
        ((found.starts(place) - START).total_seconds(), point, int(rows.bytes.sum()))
        for place, points in found.by_slice()
        for point, rows in points
    ]


def rows_in(found: Sightings) -> int:
    return sum(len(rows) for _, points in found.by_slice() for _, rows in points)


def test_windows_of_a_slice_and_point_add_up() -> None:
    found = sightings(
        window(sent(end(1), end(2), 10)),
        window(sent(end(1), end(2), 5)),
        window(sent(end(1), end(2), 7), point="h/vnet1"),
        window(sent(end(1), end(2), 100), at=2.0),
    )

    assert seen(found) == [(0.0, "h/vnet0", 15), (0.0, "h/vnet1", 7), (2.0, "h/vnet0", 100)]
    assert rows_in(found) == 3
    assert (found.start, found.covered_seconds) == (START, 3.0)
    assert len(found.slices) == 3


def test_a_pair_that_is_in_a_window_twice_is_one_row() -> None:
    found = sightings(window(sent(end(1), end(2), 10), sent(end(1), end(2), 5)))

    assert rows_in(found) == 1


def test_nothing_seen_is_nothing() -> None:
    found = sightings()

    assert (seen(found), found.points, list(found.slices), found.covered_seconds) == (
        [],
        (),
        [],
        0.0,
    )


def test_a_silent_window_is_time_that_passed() -> None:
    found = sightings(window(sent(end(1), end(2), 10)), window(at=9.0, point="h/vnet1"))

    assert (found.covered_seconds, found.points) == (10.0, ("h/vnet0", "h/vnet1"))


def test_slices_grow_when_there_are_too_many() -> None:
    found = sightings(*(window(sent(end(1), end(2), 1), at=float(n)) for n in range(20)), slices=8)

    assert found.seconds == 4.0
    assert [when for when, _, _ in seen(found)] == [0.0, 4.0, 8.0, 12.0, 16.0]
    assert sum(count for _, _, count in seen(found)) == 20
    assert found.covered_seconds == 20.0


def test_slices_grow_when_there_are_too_many_rows() -> None:
    """Ten rows a second, the same ten: in slices of four seconds they are thirty."""
    pairs = [sent(end(1), end(number), 1) for number in range(2, 12)]
    found = sightings(*(window(*pairs, at=float(n)) for n in range(12)), rows=30)

    assert found.seconds == 4.0
    assert rows_in(found) == 30


def test_rows_are_added_up_before_slices_grow() -> None:
    """A hundred windows of one second are one row each pair, however many there are."""
    found = sightings(*(window(sent(end(1), end(2), 1)) for _ in range(100)), rows=10)

    assert found.seconds == 1.0
    assert seen(found) == [(0.0, "h/vnet0", 100)]


def test_one_slice_with_more_rows_than_wanted_is_kept_whole() -> None:
    pairs = [sent(outside(n), end(m), 1) for n in range(20) for m in range(20)]
    found = sightings(*(window(pair) for pair in pairs), rows=50)

    assert rows_in(found) == 400
    assert found.seconds == 1.0


def test_slices_start_at_whole_multiples_since_the_epoch() -> None:
    late = window(sent(end(1), end(2), 1), at=3.0)
    found = sightings(late, replace(late, start=START + timedelta(seconds=6)), slices=1)

    assert found.seconds == 8.0
    assert found.starts(found.slices[0]) == START


def test_drops_are_known_by_slice_and_point() -> None:
    found = sightings(
        window(at=0.0, dropped=3), window(at=1.0, point="h/vnet1", dropped=4), window(at=1.0)
    )

    assert found.dropped_frames == 7
    assert [found.dropped_at(place) for place in found.slices] == [{"h/vnet0"}, {"h/vnet1"}]
    assert [found.dropped_in(place) for place in found.slices] == [3, 4]


def test_the_last_claim_of_a_row_is_remembered() -> None:
    found = sightings(
        claim(1, at=5.0), claim(1, at=2.0), claim(2, ip(9)), window(sent(end(3), end(1), 1))
    )

    rows, when = found.claims
    claims = {
        (row["source_mac"].tobytes()[-1], row["source_ip"].tobytes()[3]): int(at)
        for row, at in zip(found.addresses[rows], when, strict=True)
    }
    first = int(START.timestamp())
    assert claims == {(1, 1): first + 5, (2, 9): first}
    assert rows_in(found) == 1, "a claim counts no frame"


def test_errors_of_samples_add_up_by_their_squares() -> None:
    sampled = replace(
        window(sent(end(1), end(2), 100), sent(end(2), end(1), 50)),
        sampled=0.1,
        bytes_error=np.array([30.0, 0.0]),
    )
    other = replace(sampled, bytes_error=np.array([40.0, 10.0]))
    found = sightings(sampled, other, window(sent(end(1), end(2), 1)))

    [(_, [(_, rows)])] = found.by_slice()
    assert rows.variance is not None
    assert rows.variance.tolist() == [2500.0, 100.0]


def test_merging_leaves_the_other_as_it_was() -> None:
    one = sightings(window(sent(end(1), end(2), 10)))
    other = sightings(window(sent(end(1), end(2), 5)), window(sent(end(3), end(4), 1), at=1.0))
    before = packed(other)

    one.merge(other)
    one.merge(other)

    assert seen(one) == [(0.0, "h/vnet0", 20), (1.0, "h/vnet0", 2)]
    assert packed(other) == before


def test_sightings_of_other_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="5000000 µs"):
        sightings().merge(Sightings(5.0))


def test_sightings_with_other_limits_are_refused() -> None:
    """Which slices come of them would depend on the order."""
    with pytest.raises(ValueError, match="limits"):
        sightings().merge(sightings(rows=7))


def test_one_can_go_on_with_sightings_that_were_pickled() -> None:
    both = (window(sent(end(1), end(2), 10), dropped=1), claim(3))
    more = (window(sent(end(2), end(1), 3)), window(sent(end(1), end(2), 4)), claim(3, at=2.0))
    restored: Sightings = pickle.loads(pickle.dumps(sightings(*both)))

    for each in more:
        restored.add(each)

    assert packed(restored) == packed(sightings(*both, *more))


def test_addresses_that_count_nothing_are_not_pickled() -> None:
    """Windows of one reading share a table that may be far larger than what these windows name."""
    one = window(sent(end(1), end(2), 10))
    shared = window(*(sent(end(1), outside(n % 200), 10) for n in range(5000)))
    large = replace(one, addresses=np.concatenate([one.addresses, shared.addresses]))

    assert packed(sightings(large)) == packed(sightings(one))


def test_the_interface_in_an_address_row_makes_no_second_pair() -> None:
    """The name of the capture point tells it."""
    one = window(sent(end(1), Endpoint(mac=mac(2)), 10))
    other = replace(one, addresses=one.addresses.copy())
    other.addresses["interface"] = 4

    assert rows_in(sightings(one, other)) == 1
