"""One account, asked for a matrix, a series, and what belongs to nobody."""

from tests.unit.analyze.traffic import START, end, outside, sent, vm, window
from transhume.analyze import Accounts, Sightings, build_series
from transhume.knowledge.model import PairTraffic, TrafficWindow

VMS = (vm(1), vm(2))


def accounts(*windows: TrafficWindow) -> Accounts:
    sightings = Sightings(1.0)
    for each in windows:
        sightings.add(each)
    return Accounts(sightings, VMS)


def of_nobody(*numbers: int, count: int = 100) -> list[PairTraffic]:
    return [sent(outside(number), outside(number + 100), count, number) for number in numbers]


def test_a_series_has_a_matrix_for_each_slice_and_the_silent_ones_too() -> None:
    series = build_series(
        [
            window(sent(end(1), end(2), 10), dropped=2),
            window(sent(end(1), end(2), 30), sent(end(1), outside(1), 5), at=3.0),
        ],
        VMS,
    )

    assert (series.vms, series.seconds) == (("vm1", "vm2"), 1.0)
    assert [each.between(0, 1) for each in series.matrices] == [10, 0, 0, 30]
    assert [each.total_bytes for each in series.matrices] == [10, 0, 0, 35]
    assert [each.dropped_frames for each in series.matrices] == [2, 0, 0, 0]
    assert [(each.start - START).total_seconds() for each in series.matrices] == [0, 1, 2, 3]
    assert {each.seconds for each in series.matrices} == {1.0}


def test_a_series_of_nothing_is_empty() -> None:
    assert build_series([], VMS).matrices == ()


def test_the_matrix_covers_the_windows() -> None:
    found = accounts(window(sent(end(1), end(2), 10), at=2.0), window(at=4.0)).matrix()

    assert ((found.start - START).total_seconds(), found.seconds) == (2.0, 3.0)


def test_a_pair_of_which_nothing_counts_is_no_entry() -> None:
    found = accounts(window(sent(end(1), end(2), 0, 0), sent(end(2), end(1), 0, 3))).matrix()

    assert (found.source.tolist(), found.frames.tolist()) == ([1], [3])


def test_what_belongs_to_nobody_is_told_most_first() -> None:
    found = accounts(
        window(*of_nobody(1, count=10), *of_nobody(2, count=30), sent(end(1), end(2), 1)),
        window(*of_nobody(1, count=25), at=1.0),
    ).unattributed()

    assert [(each.source.ip, each.bytes, each.frames) for each in found.pairs] == [
        ("192.0.2.1", 35, 2),
        ("192.0.2.2", 30, 2),
    ]
    assert (found.pair_count, found.bytes, found.frames) == (2, 65, 4)


def test_what_is_left_out_of_the_table_is_in_its_totals() -> None:
    found = accounts(window(*of_nobody(*range(1, 9)))).unattributed(most=3)

    assert [each.frames for each in found.pairs] == [8, 7, 6]
    assert (found.pair_count, found.bytes) == (8, 800)


def test_what_belongs_to_nobody_counts_once_too() -> None:
    found = accounts(window(*of_nobody(1, count=10)), window(*of_nobody(1, count=12), point="b"))

    assert found.unattributed().bytes == found.matrix().unattributed_bytes == 12


def test_where_everything_is_known_the_table_is_empty() -> None:
    found = accounts(window(sent(end(1), end(2), 10))).unattributed()

    assert (found.pairs, found.pair_count, found.bytes, found.frames) == ((), 0, 0, 0)
