"""How hard a link's frames are compressed, and how long they are, by what the link takes."""

import pytest

from transhume.execute.migration.gateway.pace import LARGEST_BATCH, Pace, Stride, most_batch_bytes

MB = 1 << 20


def send(
    pace: Pace, total_bytes: int, *, compressed: float, raw: float, link: float, ratio: float
) -> None:
    """Send through a coder and a link of so many bytes per second; compressed, a `ratio` fewer cross.

    The harder a level, the longer it takes.
    """
    left = total_bytes
    while left > 0:
        batch = min(left, pace.batch_bytes)
        longer = {None: 1, 1: 1, 3: 1.6, 6: 3, 9: 6}[pace.level]
        coding = batch * longer / (raw if pace.level is None else compressed)
        crossing = batch / (1 if pace.level is None else ratio) / link
        pace.sent(batch, batch, coding, max(0.0, crossing - coding))
        left -= batch


def test_on_a_slow_link_little_is_taken_at_once_and_everything_compressed() -> None:
    pace = Pace()
    send(pace, 200 * MB, compressed=200e6, raw=800e6, link=1.25e6, ratio=2)
    assert pace.batch_bytes / (2 * 1.25e6) < 0.1, "seconds until something more urgent has its turn"
    assert pace.level


def test_what_is_known_makes_batches_no_longer_than_a_slow_link_bears() -> None:
    """A guest that stops has to wait for what was read ahead of it, and that may be new."""
    pace, link = Pace(), 1.25e6
    pace.keep_to(link)
    for _ in range(1000):
        pace.sent(pace.batch_bytes, 0, 0.001, 0.0)
    assert pace.batch_bytes == most_batch_bytes(link) < LARGEST_BATCH
    assert pace.batch_bytes * 0.35 / link <= 0.1, "seconds, if all of it is new"
    pace.keep_to(None)
    for _ in range(1000):
        pace.sent(pace.batch_bytes, 0, 0.001, 0.0)
    assert pace.batch_bytes == LARGEST_BATCH


def test_a_batch_grows_only_after_much_has_gone_by_quickly() -> None:
    pace = Pace()
    before = pace.batch_bytes
    for _ in range(100):
        for seconds in (0.001, 0.001, 0.05):
            pace.sent(pace.batch_bytes, 0, seconds, 0.0)
    assert pace.batch_bytes == before
    for _ in range(4):
        pace.sent(before, 0, 0.001, 0.0)
    assert pace.batch_bytes == 2 * before


def test_on_a_fast_link_the_compressor_gets_out_of_the_way() -> None:
    pace = Pace()
    send(pace, 600 * MB, compressed=200e6, raw=800e6, link=5e9, ratio=2)
    assert pace.batch_bytes == LARGEST_BATCH
    assert pace.level is None


def test_the_compressor_comes_back_when_the_link_becomes_the_narrow_place() -> None:
    pace = Pace()
    send(pace, 600 * MB, compressed=200e6, raw=800e6, link=5e9, ratio=2)
    send(pace, 200 * MB, compressed=200e6, raw=800e6, link=50e6, ratio=2)
    assert pace.level


@pytest.mark.parametrize(
    ("link", "level"),
    [
        pytest.param(1.25e6, 9, id="10 Mbit/s"),
        pytest.param(3.75e6, 9, id="30 Mbit/s"),
        pytest.param(7.5e6, 6, id="60 Mbit/s"),
        pytest.param(12.5e6, 3, id="100 Mbit/s"),
        pytest.param(25e6, 1, id="200 Mbit/s"),
    ],
)
def test_the_slower_the_link_the_harder_is_compressed(link: float, level: int) -> None:
    pace = Pace()
    send(pace, 400 * MB, compressed=200e6, raw=800e6, link=link, ratio=3)
    assert pace.level == level


@pytest.mark.parametrize(
    "course",
    [
        pytest.param([(100, 12.5e6, 3), (200, 1.25e6, 9)], id="rises when the link gets slower"),
        pytest.param(
            [(100, 1.25e6, 9), (100, 2.5e6, 9), (200, 50e6, 1)],
            id="falls when the link gets fast, and then only",
        ),
    ],
)
def test_a_level_follows_the_link(course: list[tuple[int, float, int]]) -> None:
    pace = Pace()
    for megabytes, link, level in course:
        send(pace, megabytes * MB, compressed=200e6, raw=800e6, link=link, ratio=3)
        assert pace.level == level


def test_where_compressing_costs_nothing_it_stays() -> None:
    pace = Pace()
    send(pace, 2000 * MB, compressed=1000e6, raw=800e6, link=5e9, ratio=2)
    assert pace.level


def test_what_is_known_anyhow_says_nothing_of_compressing() -> None:
    """Nobody waits for a link over which only references go, however slow it is."""
    pace = Pace()
    for _ in range(1000):
        pace.sent(MB, MB // 10, 0.005, 0.0)
    assert pace.level
    send(pace, 200 * MB, compressed=200e6, raw=800e6, link=1.25e6, ratio=2)
    assert pace.level


def test_more_is_read_at_once_while_it_costs_the_link_next_to_nothing() -> None:
    may_be_new = 64 << 10
    stride = Stride(lambda: may_be_new)
    read = []
    for wire_bytes in (300, 300, 300, 300, 300, 20_000, 300):
        stride.went_by(wire_bytes)
        read.append(stride.most_bytes // may_be_new)
    assert read == [2, 4, 8, 8, 8, 1, 2]


def test_the_rest_of_a_flow_is_read_in_several_pieces() -> None:
    may_be_new, remaining = 64 << 10, 100 << 20
    stride = Stride(lambda: may_be_new, lambda: remaining)
    for _ in range(3):
        stride.went_by(300)
    read = []
    for remaining in (100 << 20, 3 << 20, 1 << 20, 0):  # noqa: B007  (the stride asks for it)
        read.append(stride.most_bytes)
    assert read == [8 * may_be_new, 6 * may_be_new, 2 * may_be_new, may_be_new]


def test_what_is_read_at_once_follows_what_may_be_new() -> None:
    may_be_new = 1 << 20
    stride = Stride(lambda: may_be_new)
    stride.went_by(300)
    stride.went_by(300)
    assert stride.most_bytes == LARGEST_BATCH
    may_be_new = 64 << 10
    assert stride.most_bytes == 4 * may_be_new
