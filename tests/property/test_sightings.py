"""However windows are ordered and split, the same comes of them, to the byte."""

import pickle
from dataclasses import replace
from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_matrix import PAIRS, VMS
from tests.unit.analyze.traffic import START, claim, packed, window
from transhume.analyze import Accounts, Sightings, vms_from_sightings
from transhume.knowledge.model import TrafficWindow

SEEN = st.builds(
    lambda pairs, at, point, dropped: replace(
        window(*pairs, at=at, point=point), dropped_frames=dropped
    ),
    PAIRS,
    st.integers(-3, 40),
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([0, 0, 3]),
)
CLAIMS = st.builds(lambda number, at: claim(number, at=at), st.integers(1, 4), st.integers(0, 9))
WINDOWS = st.lists(st.one_of(SEEN, SEEN, SEEN, CLAIMS), max_size=12)
LIMITS = st.tuples(st.integers(1, 40), st.integers(1, 12))


def sightings(windows: list[TrafficWindow], limits: tuple[int, int]) -> Sightings:
    found = Sightings(1.0, most_rows=limits[0], most_slices=limits[1])
    for each in windows:
        found.add(each)
    return found


@settings(max_examples=examples(80))
@given(windows=WINDOWS, limits=LIMITS, data=st.data())
def test_order_and_splitting_make_no_difference(
    windows: list[TrafficWindow], limits: tuple[int, int], data: st.DataObject
) -> None:
    whole = sightings(windows, limits)
    shuffled = data.draw(st.permutations(windows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(windows)), max_size=3)))
    parts = [
        sightings(shuffled[first:after], limits)
        for first, after in zip([0, *cuts], [*cuts, len(windows)], strict=True)
    ]
    merged = sightings([], limits)
    for part in data.draw(st.permutations(parts)):
        merged.merge(pickle.loads(pickle.dumps(part)) if data.draw(st.booleans()) else part)

    assert packed(merged) == packed(whole)


@given(windows=WINDOWS, limits=LIMITS)
def test_slices_are_as_short_as_the_limits_let_them_be(
    windows: list[TrafficWindow], limits: tuple[int, int]
) -> None:
    found = sightings(windows, limits)
    most_rows, most_slices = limits
    rows = sum(len(rows) for _, points in found.by_slice() for _, rows in points)

    assert len(found.slices) <= most_slices
    assert rows <= most_rows or len(found.slices) == 1
    if found.seconds > 1.0:
        finer = Sightings(found.seconds / 2, most_rows=10**9, most_slices=10**9)
        for each in windows:
            finer.add(each)
        finer_rows = sum(len(rows) for _, points in finer.by_slice() for _, rows in points)
        assert finer_rows > most_rows or len(finer.slices) > most_slices


@given(windows=WINDOWS, limits=LIMITS)
def test_no_byte_frame_or_drop_gets_lost(
    windows: list[TrafficWindow], limits: tuple[int, int]
) -> None:
    found = sightings(windows, limits)
    seen = [rows for _, points in found.by_slice() for _, rows in points]

    for name in ("bytes", "payload_bytes", "frames"):
        total = sum(int(getattr(rows, name).sum()) for rows in seen)
        assert total == sum(int(getattr(each, name).sum()) for each in windows)
    assert found.dropped_frames == sum(each.dropped_frames for each in windows)


@given(windows=WINDOWS, limits=LIMITS)
def test_a_series_adds_up_to_its_matrix(
    windows: list[TrafficWindow], limits: tuple[int, int]
) -> None:
    found = sightings(windows, limits)
    accounts = Accounts(found, VMS)
    matrix, series = accounts.matrix(), accounts.series()

    assert len(series.matrices) == len(found.slices)
    for name in ("bytes", "payload_bytes", "frames"):
        square = sum(
            (each.dense(getattr(each, name)) for each in series.matrices),
            start=np.zeros((len(VMS), len(VMS)), dtype=np.int64),
        )
        np.testing.assert_array_equal(square, matrix.dense(getattr(matrix, name)))
    for name in ("multicast_bytes", "unattributed_bytes", "total_bytes", "dropped_frames"):
        assert sum(getattr(each, name) for each in series.matrices) == getattr(matrix, name)
    assert [each.start for each in series.matrices] == [
        found.starts(found.slices[0]) + number * timedelta(seconds=series.seconds)
        for number in range(len(series.matrices))
    ]
    assert accounts.unattributed().bytes == matrix.unattributed_bytes


@given(windows=WINDOWS)
def test_guessing_vms_does_not_depend_on_the_order(windows: list[TrafficWindow]) -> None:
    limits = (1000, 1000)

    assert vms_from_sightings(sightings(windows, limits)) == vms_from_sightings(
        sightings(windows[::-1], limits)
    )
    assert all(each.start >= START - timedelta(seconds=3) for each in windows)
