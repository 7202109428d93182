"""What a link carries, by what was sent over it."""

import pytest

from transhume.execute.migration.gateway.link_rate import LinkRate


def test_nothing_is_known_of_a_link_before_it_was_used() -> None:
    assert LinkRate().bytes_per_second is None


def test_a_link_that_frames_wait_for_tells_what_it_carries() -> None:
    rate = LinkRate()
    for _ in range(100):
        rate.sent(62_500, coding_seconds=0.005, waiting_seconds=0.045)
    assert rate.bytes_per_second == pytest.approx(1.25e6)


def test_a_coder_that_is_the_narrow_place_tells_nothing_of_the_link() -> None:
    rate = LinkRate()
    for _ in range(100):
        rate.sent(62_500, coding_seconds=0.04, waiting_seconds=0.01)
    assert rate.bytes_per_second is None


def test_what_was_seen_long_ago_counts_little() -> None:
    rate = LinkRate()
    for _ in range(1000):
        rate.sent(1_000_000, coding_seconds=0.0, waiting_seconds=0.05)
    for _ in range(1000):
        rate.sent(50_000, coding_seconds=0.0, waiting_seconds=0.05)
    assert rate.bytes_per_second == pytest.approx(1e6, rel=0.1)
