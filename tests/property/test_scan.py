"""Both engines against dpkt, frame by frame, over all that a capture can hold."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.monitor.capture import capture_writing as writing
from tests.unit.monitor.capture.scan.frame_making import LINKS, ODD_LINK, any_frame, kept_of
from tests.unit.monitor.capture.scan.reference import Seen, totals
from tests.unit.monitor.capture.scan.scanning import scanned
from transhume.monitor.capture.scan import Engine

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND
ENGINES = [pytest.param(engine, id=engine.value) for engine in Engine]
seeds = st.integers(0, 1 << 32)


def frames_of(random: Random, links: tuple[int, ...], count: int) -> list[Seen]:
    """Draw frames of one capture, mostly in the order of time; a link type for each interface."""
    found, at_ns = [], T0
    for _ in range(count):
        at_ns += random.choice((0, 1000, SECOND // 3, -SECOND // 2))
        interface = random.randrange(len(links))
        whole = any_frame(random, links[interface])
        found.append(
            Seen(
                at_ns=at_ns,
                kept=kept_of(random, whole),
                wire=len(whole),
                link=links[interface],
                interface=interface,
            )
        )
    return found


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=examples(60))
@given(
    seed=seeds,
    link=st.sampled_from([*LINKS, 1, 1, 1, ODD_LINK]),
    order=st.sampled_from("<>"),
    nanoseconds=st.booleans(),
    inner=st.booleans(),
    captured_length=st.booleans(),
    piece=st.integers(20, 3000),
)
def test_a_pcap_file_says_what_dpkt_says(  # noqa: PLR0917
    engine: Engine,
    seed: int,
    link: int,
    order: str,
    nanoseconds: bool,
    inner: bool,
    captured_length: bool,
    piece: int,
) -> None:
    frames = frames_of(Random(seed), (link,), 40)
    records = [(one.at_ns, one.kept, one.wire) for one in frames]
    content = writing.pcap_of(records, order=order, nanoseconds=nanoseconds, link=link)

    found = scanned(content, engine, piece=piece, inner=inner, captured_length=captured_length)

    expected = totals(frames, width_ns=SECOND, inner=inner, captured_length=captured_length)
    assert found.stopped is None
    assert found.totals == expected
    assert found.scanner.frames == len(frames)
    assert found.scanner.bytes == sum(cell[0] for cell in expected.values())
    times = [one.at_ns if nanoseconds else one.at_ns // 1000 * 1000 for one in frames]
    assert (found.scanner.first_ns, found.scanner.last_ns) == (min(times), max(times))
    nobody = sum(cell[2] for (_, row), cell in expected.items() if not any(row[12:14]))
    assert found.scanner.unreadable_frames == nobody
    assert sum(window.unreadable_frames for window in found.windows) == nobody


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=examples(60))
@given(
    seed=seeds,
    links=st.lists(st.sampled_from([*LINKS, 1, ODD_LINK]), min_size=1, max_size=4),
    order=st.sampled_from("<>"),
    resolutions=st.lists(
        st.sampled_from([9, 6, 3, 0, 12, 0x80 | 30, 0x80 | 10]), min_size=4, max_size=4
    ),
    inner=st.booleans(),
    piece=st.integers(40, 3000),
)
def test_a_pcapng_file_says_what_dpkt_says(  # noqa: PLR0917
    engine: Engine,
    seed: int,
    links: list[int],
    order: str,
    resolutions: list[int],
    inner: bool,
    piece: int,
) -> None:
    random = Random(seed)
    frames = frames_of(random, tuple(links), 40)
    written, expected = writing.pcapng_of(random, frames, links, resolutions, order)

    found = scanned(written, engine, piece=piece, inner=inner)

    assert found.stopped is None
    assert found.totals == totals(expected, width_ns=SECOND, inner=inner)


@settings(max_examples=examples(40))
@given(seed=seeds, data=st.data())
def test_both_engines_hand_out_the_same_windows(seed: int, data: st.DataObject) -> None:
    """Row for row, and in the same order: pairs are numbered as they come."""
    random = Random(seed)
    links = tuple(data.draw(st.lists(st.sampled_from(LINKS), min_size=1, max_size=3)))
    content, _ = writing.pcapng_of(random, frames_of(random, links, 60), links, [9] * 4, "<")

    by_numba, by_numpy = (scanned(content, engine, seconds=0.5) for engine in Engine)

    assert len(by_numba.windows) == len(by_numpy.windows)
    for one, other in zip(by_numba.windows, by_numpy.windows, strict=True):
        assert (one.start, one.capture_point) == (other.start, other.capture_point)
        assert (one.addresses == other.addresses).all()
        for column in ("pair", "bytes", "payload_bytes", "frames"):
            assert getattr(one, column).tolist() == getattr(other, column).tolist()
