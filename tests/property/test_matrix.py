"""Whatever is in the windows, the parts of the matrix add up to it."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.analyze.traffic import START, end, ip, outside, sent, vm, window
from transhume.analyze import build_matrix, vms_from_windows
from transhume.knowledge.model import Endpoint, MacAddress, TrafficWindow

ENDS = st.one_of(
    st.builds(end, st.integers(1, 6)),
    st.builds(outside, st.integers(1, 9)),
    st.sampled_from(
        [
            Endpoint(mac=MacAddress("ff:ff:ff:ff:ff:ff"), ip=ip(9)),
            Endpoint(mac=MacAddress("33:33:00:00:00:01")),
            Endpoint(mac=MacAddress("")),
            Endpoint(mac=MacAddress(""), ip=ip(3)),
        ]
    ),
)
PAIRS = st.lists(st.builds(sent, ENDS, ENDS, st.integers(0, 10**12), st.integers(1, 10**6)))


def windows_at(points: st.SearchStrategy[str]) -> st.SearchStrategy[list[TrafficWindow]]:
    one = st.tuples(PAIRS, st.integers(0, 3), points).map(
        lambda drawn: window(*drawn[0], at=drawn[1], point=drawn[2])
    )
    return st.lists(one, max_size=6)


VMS = tuple(vm(number) for number in range(1, 5))


@given(windows=windows_at(st.just("h/vnet0")))
def test_at_one_capture_point_every_byte_is_in_the_matrix(windows: list[TrafficWindow]) -> None:
    matrix = build_matrix(windows, VMS, start=START, seconds=4.0)

    assert matrix.total_bytes == sum(pair.bytes for window in windows for pair in window.pairs)


@given(windows=windows_at(st.sampled_from(["a", "b", "c"])))
def test_between_capture_points_the_matrix_lies_between_the_largest_and_the_sum(
    windows: list[TrafficWindow],
) -> None:
    """None of the points is a tap, whose word would stand even where it saw less."""
    nobodys = dict.fromkeys("abc", MacAddress(""))
    matrix = build_matrix(windows, VMS, start=START, seconds=4.0, taps=nobodys)

    by_point: dict[str, int] = defaultdict(int)
    for one in windows:
        by_point[one.capture_point] += sum(pair.bytes for pair in one.pairs)
    assert max(by_point.values(), default=0) <= matrix.total_bytes <= sum(by_point.values())


@given(windows=windows_at(st.just("a")), points=st.integers(1, 4))
def test_however_many_points_see_the_same_frames_they_count_once(
    windows: list[TrafficWindow], points: int
) -> None:
    seen = [
        window(*one.pairs, at=(one.start - START).total_seconds(), point=f"p{number}")
        for one in windows
        for number in range(points)
    ]

    once = build_matrix(windows, VMS, start=START, seconds=4.0)
    often = build_matrix(seen, VMS, start=START, seconds=4.0)

    assert often.total_bytes == once.total_bytes
    assert (often.bytes == once.bytes).all()


@given(windows=windows_at(st.just("a")))
def test_guessed_vms_have_names_and_addresses_of_their_own(windows: list[TrafficWindow]) -> None:
    vms = vms_from_windows(windows)

    names = [vm.name for vm in vms]
    macs = [interface.mac for vm in vms for interface in vm.interfaces if interface.mac]
    assert len(set(names)) == len(names)
    assert len(set(macs)) == len(macs)
