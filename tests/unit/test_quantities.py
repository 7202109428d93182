"""Quantities as people write them, and the way back."""

import re
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume import quantities
from transhume.quantities import (
    format_bytes,
    format_dollars_per_hour,
    format_duration,
    format_rate,
    parse_bytes,
    parse_dollars_per_gb,
    parse_dollars_per_gb_ms,
    parse_dollars_per_gib_hour,
    parse_dollars_per_hour,
    parse_duration,
    parse_instant,
    parse_moment,
    parse_rate,
    parse_share,
    parse_time_of_day,
)

PARSERS = [
    parse_bytes,
    parse_duration,
    parse_rate,
    parse_dollars_per_hour,
    parse_dollars_per_gb,
    parse_dollars_per_gb_ms,
    parse_dollars_per_gib_hour,
    parse_share,
    parse_instant,
    parse_time_of_day,
    parse_moment,
]


@pytest.mark.parametrize(
    ("text", "minutes"), [("00:00", 0), ("08:00", 480), ("23:59", 1439), ("24:00", 1440)]
)
def test_a_time_of_day_is_minutes_after_midnight(text, minutes):
    assert parse_time_of_day(text) == minutes


@pytest.mark.parametrize("text", ["8:00", "24:01", "12:60", "noon", "", "08:00:00"])
def test_what_no_clock_shows_is_no_time_of_day(text):
    with pytest.raises(ValueError, match="no time of day; write it as in '08:00'"):
        parse_time_of_day(text)


@pytest.mark.parametrize(
    ("parse", "text", "meant"),
    [
        pytest.param(parse, text, meant, id=f"{parse.__name__} {text}")
        for parse, text, meant in [
            (parse_bytes, "512MiB", 512 << 20),
            (parse_bytes, "1.5GB", 1_500_000_000),
            (parse_duration, "45m", 2700.0),
            (parse_duration, "120s", 120.0),
            (parse_duration, "6h", 21600.0),
            (parse_duration, "7d", 604800.0),
            (parse_duration, "500ms", 0.5),
            (parse_duration, "1.5h", 5400.0),
            (parse_duration, "1h30m", 5400.0),
            (parse_duration, "1h 30m", 5400.0),
            (parse_duration, "0s", 0.0),
            (parse_rate, "20MB/s", 20e6),
            (parse_rate, "64KiB/s", 65536.0),
            (parse_rate, "100mbit", 12.5e6),
            (parse_rate, "1Gbit/s", 125e6),
            (parse_rate, "8bit", 1.0),
            (parse_dollars_per_hour, "12.0/h", 12.0),
            (parse_dollars_per_gb, "0.09/GB", 0.09),
            (parse_dollars_per_gb_ms, "0.001/GB/ms", 0.001),
            (parse_dollars_per_gib_hour, "0.005/GiB/h", 0.005),
            (parse_share, "5%", 0.05),
            (parse_share, "100%", 1.0),
        ]
    ],
)
def test_a_quantity_with_its_unit_is_read(parse, text, meant):
    assert parse(text) == pytest.approx(meant)


@pytest.mark.parametrize(
    ("parse", "text", "said"),
    [
        pytest.param(parse, text, said, id=f"{parse.__name__} {text[:20]!r}")
        for parse, text, said in [
            (parse_duration, "", "'' is not a duration"),
            (parse_duration, "10", "10 has no unit; write a duration with one, such as 45m"),
            (parse_duration, "-6h", "-6h is negative; a duration is 0 or more"),
            (parse_duration, "10 minutes", "'10 minutes' is not a duration; write it as in 45m"),
            (parse_duration, "30m1h", "30m1h is not a duration"),
            (parse_duration, "1h ", "'1h ' is not a duration"),
            (parse_duration, "101000d", "longer than a century"),
            (parse_duration, "9" * 400 + "s", "larger than"),
            (parse_duration, "٣h", "is not a duration"),
            (parse_rate, "20MB", "20MB is an amount, not a rate; write 20MB/s"),
            (parse_rate, "20Mb/s", "bits or bytes"),
            (parse_rate, "20mbps", "bits or bytes"),
            (parse_rate, "20", "20 has no unit"),
            (parse_rate, "-1MB/s", "negative"),
            (parse_rate, "fast", "fast is not a rate; write it as in 20MB/s"),
            (parse_dollars_per_hour, "$12/h", "write it as in 12.0/h"),
            (parse_dollars_per_hour, "12", "12 has no unit"),
            (parse_dollars_per_gb_ms, "0.001/GB", "write it as in 0.001/GB/ms"),
            (parse_dollars_per_gb, "0.09/GiB", "write it as in 0.09/GB"),
            (parse_share, "500%", "500% is more than the whole"),
            (parse_share, "0.05", "0.05 has no unit; write a share with one, such as 5%"),
            (parse_instant, "2030-01-01T18:00", "has no time zone"),
            (parse_instant, "2030-01-01", "has no time zone"),
            (parse_instant, "tomorrow", "tomorrow is not an instant; write it as in 2030-01-01T18"),
            (parse_instant, "0001-01-01T00:00+23:59", "is not an instant"),
        ]
    ],
)
def test_a_bad_quantity_is_refused_with_what_was_seen_and_what_is_right(parse, text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


def test_an_instant_is_in_utc():
    assert parse_instant("2030-01-01T18:00+02:00") == datetime(2030, 1, 1, 16, tzinfo=UTC)
    assert parse_instant("2030-01-01T18:00Z").tzinfo is UTC


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        pytest.param(write, value, text, id=f"{write.__name__} {value}")
        for write, value, text in [
            (format_duration, 0, "0s"),
            (format_duration, 1e-5, "<1ms"),
            (format_duration, 0.25, "250ms"),
            (format_duration, 0.9999, "1s"),
            (format_duration, 1.52, "1.5s"),
            (format_duration, 59.9, "1m"),
            (format_duration, 125, "2m 5s"),
            (format_duration, 3599.9, "1h"),
            (format_duration, 5400, "1h 30m"),
            (format_duration, 90000, "1d 1h"),
            (format_duration, -90, "-1m 30s"),
            (format_duration, float("inf"), "forever"),
            (format_bytes, 0, "0 B"),
            (format_bytes, 999, "999 B"),
            (format_bytes, 999.7, "1 kB"),
            (format_bytes, 1.5e9, "1.5 GB"),
            (format_bytes, 5e15, "5000 TB"),
            (format_bytes, -3e6, "-3 MB"),
            (format_rate, 20e6, "20 MB/s"),
            (format_dollars_per_hour, 0, "$0.00/h"),
            (format_dollars_per_hour, 12, "$12.00/h"),
            (format_dollars_per_hour, -0.3, "-$0.30/h"),
            (format_dollars_per_hour, 0.0062, "$0.0062/h"),
            (format_dollars_per_hour, 0.00012, "$0.00012/h"),
            (format_dollars_per_hour, 0.00005, "$0.000050/h"),
            (format_dollars_per_hour, 0.000049, "$0.00/h"),
            (format_dollars_per_hour, -9.1e-7, "$0.00/h"),
            (format_dollars_per_hour, 12345.6, "$12,345.60/h"),
        ]
    ],
)
def test_quantities_are_written_for_people(write, value, text):
    assert write(value) == text


@given(st.floats(min_value=0.02, max_value=3e9))
def test_a_written_duration_can_be_read_again(seconds):
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.06)


@given(st.floats(min_value=0.01, max_value=9e14))
def test_a_written_rate_can_be_read_again(rate):
    assert parse_rate(format_rate(rate)) == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(text=st.text(max_size=30) | st.from_regex(r"-?[0-9.]{1,20}(/?[a-zA-Z%]{1,4}){0,2}"))
def test_any_text_is_a_quantity_or_a_value_error(parse, text):
    with suppress(ValueError):
        assert parse(text) is not None


def test_every_parser_is_tested_against_any_text():
    assert {parse.__name__ for parse in PARSERS} == {
        name for name in vars(quantities) if name.startswith("parse_")
    }
