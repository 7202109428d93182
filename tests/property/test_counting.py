"""The rule of which sighting counts, on arrays, against the same rule in the slow and obvious way."""

from collections import defaultdict
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.analyze.traffic import ip, mac, sent, vm, window
from transhume.analyze import build_matrix
from transhume.knowledge.model import Endpoint, MacAddress, PairTraffic, TrafficWindow

VMS = tuple(vm(number) for number in range(1, 5))
ROUTERS = (mac(98), mac(99))
NUMBERS = st.integers(1, 4)
POINTS = ("tap1", "tap1too", "tap2", "bridge", "uplink")
TOLD = {
    "tap1": mac(1),
    "tap1too": mac(1),
    "tap2": mac(2),
    "bridge": MacAddress(""),
    "uplink": mac(77),
}
Amount = tuple[int, int, int]
"""Bytes, payload bytes, frames."""
Seen = dict[tuple[str, str], Amount]
"""By point and leg."""
Subject = tuple[datetime, str, str]
"""Start of the slice, and the addresses."""
Sightings = dict[Subject, Seen]
SECOND = timedelta(seconds=1)


@st.composite
def pairs(draw: st.DrawFn) -> PairTraffic:
    """Draw a leg of the way from one VM to another: by itself, or to, between or from routers."""
    source, destination = draw(NUMBERS), draw(NUMBERS)
    first, last = draw(st.sampled_from([(0, 0), (0, 1), (1, 1), (1, 0)]))
    one = Endpoint(mac=draw(st.sampled_from(ROUTERS)) if first else mac(source), ip=ip(source))
    other = Endpoint(
        mac=draw(st.sampled_from(ROUTERS)) if last else mac(destination), ip=ip(destination)
    )
    return sent(one, other, draw(st.integers(0, 5)) * 100, draw(st.integers(1, 3)))


WINDOWS = st.lists(
    st.builds(
        lambda each, at, point, dropped: window(*each, at=at, point=point, dropped=dropped),
        st.lists(pairs(), max_size=6),
        st.integers(0, 3),
        st.sampled_from(POINTS),
        st.sampled_from([0, 0, 0, 1]),
    ),
    max_size=10,
)


def leg_of(pair: PairTraffic) -> str:
    if pair.source.mac not in ROUTERS:
        return "first"
    return "middle" if pair.destination.mac in ROUTERS else "last"


def obvious(windows: list[TrafficWindow]) -> dict[tuple[str | None, str | None], Amount]:
    """Apply the rule conversation by conversation."""
    sightings: Sightings = defaultdict(dict)
    dropped = {(each.start, each.capture_point) for each in windows if each.dropped_frames}
    for each in windows:
        for pair in each.pairs:
            seen = sightings[each.start, str(pair.source.ip), str(pair.destination.ip)]
            key = (each.capture_point, leg_of(pair))
            so_far = seen.get(key, (0, 0, 0))
            seen[key] = (so_far[0] + pair.bytes, 0, so_far[2] + pair.frames)
    found: dict[tuple[str | None, str | None], Amount] = defaultdict(lambda: (0, 0, 0))
    for (start, source, destination), seen in without_late(sightings, dropped).items():
        at_source = taps(seen, source, ("first",))
        at_destination = taps(seen, destination, ("first", "last"))
        candidates = seen
        if at_source:
            if not any((start, point) in dropped for point, _ in at_source):
                candidates = at_source
        elif at_destination and not any((start, point) in dropped for point, _ in at_destination):
            candidates = at_destination
        count, _, frames = max(candidates.values())
        before = found[source, destination]
        found[source, destination] = (before[0] + count, 0, before[2] + frames)
    return found


def without_late(sightings: Sightings, dropped: set[tuple[datetime, str]]) -> dict[Subject, Seen]:
    """Leave out what a better placed point saw in the same slice or in one beside it."""
    at_tap = {
        (start, source, destination, end)
        for (start, source, destination), seen in sightings.items()
        for end, address, legs in ends(source, destination)
        if taps(seen, address, legs)
    }
    kept = {}
    for subject, seen in sightings.items():
        start, source, destination = subject
        better: Seen = {}
        for end, address, _ in ends(source, destination):
            better |= taps(seen, address, ("first", "middle", "last"))
            lossy = any(tap == mac_of(address) and (start, p) in dropped for p, tap in TOLD.items())
            near = any((start + n * SECOND, source, destination, end) in at_tap for n in (-1, 0, 1))
            if near and not lossy:
                seen = {key: seen[key] for key in seen if key in better}  # noqa: PLW2901
        if seen:
            kept[subject] = seen
    return kept


def ends(source: str, destination: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return both ends of a conversation, the better one first, and on which legs their taps see it."""
    return ("source", source, ("first",)), ("destination", destination, ("first", "last"))


def mac_of(address: str) -> MacAddress:
    return {str(ip(number)): mac(number) for number in range(1, 5)}[address]


def taps(seen: Seen, address: str, legs: tuple[str, ...]) -> Seen:
    return {
        (point, leg): amount
        for (point, leg), amount in seen.items()
        if leg in legs and TOLD[point] == mac_of(address)
    }


@settings(max_examples=examples(60))
@given(windows=WINDOWS)
def test_the_rule_is_the_same_on_arrays(windows: list[TrafficWindow]) -> None:
    matrix = build_matrix(windows, VMS, taps=TOLD)
    expected = obvious(windows)

    for i, one in enumerate(VMS):
        for j, other in enumerate(VMS):
            key = (one.interfaces[0].ips[0], other.interfaces[0].ips[0])
            count, _, frames = expected.get(key, (0, 0, 0))
            assert matrix.between(i, j) == count
            assert matrix.dense(matrix.frames)[i, j] == frames
