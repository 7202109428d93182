"""Hours of the week: by the clock on the wall, through the nights that change it."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.policies.calendar import Hours, Weekday

ROME = ZoneInfo("Europe/Rome")
WORKDAYS = (Weekday.MON, Weekday.TUE, Weekday.WED, Weekday.THU, Weekday.FRI)
NEW_YEAR = datetime(2029, 1, 1, tzinfo=UTC)
OFFICE = Hours(begins_minute=8 * 60, ends_minute=18 * 60, days=WORKDAYS, timezone=ROME)
NIGHT = Hours(
    begins_minute=22 * 60, ends_minute=6 * 60, days=(Weekday.SAT,), timezone=ZoneInfo("UTC")
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("instant", "inside"),
    [
        pytest.param("2030-01-01T06:59:59Z", False, id="before eight in winter"),
        pytest.param("2030-01-01T07:00Z", True, id="at eight in winter"),
        pytest.param("2030-01-01T17:00Z", False, id="at six in winter"),
        pytest.param("2030-07-01T06:00Z", True, id="at eight in summer"),
        pytest.param("2030-07-01T16:00Z", False, id="at six in summer"),
        pytest.param("2030-01-05T10:00Z", False, id="on a Saturday"),
    ],
)
def test_office_hours_follow_the_clock_on_the_wall(instant: str, inside: bool) -> None:
    assert (OFFICE.opening_at(at(instant)) is not None) is inside


def test_hours_over_midnight_belong_to_the_day_on_which_it_begins() -> None:
    assert NIGHT.opening_at(at("2030-01-05T23:00Z")) == NIGHT.opening_at(at("2030-01-06T05:59Z"))
    assert NIGHT.opening_at(at("2030-01-05T05:00Z")) is None
    assert NIGHT.opening_at(at("2030-01-06T06:00Z")) is None


@pytest.mark.parametrize(
    ("night", "hours"),
    [
        pytest.param("2030-03-31T00:30:00+01:00", 5, id="clocks go forward"),
        pytest.param("2030-10-27T00:30:00+02:00", 7, id="clocks go back"),
        pytest.param("2030-06-01T00:30:00+02:00", 6, id="any other night"),
    ],
)
def test_a_night_that_changes_the_clock_is_an_hour_shorter_or_longer(
    night: str, hours: int
) -> None:
    small_hours = Hours(begins_minute=0, ends_minute=6 * 60, timezone=ROME)
    opening = small_hours.opening_at(at(night))
    assert opening is not None
    assert opening.end - opening.start == timedelta(hours=hours)


def test_a_time_that_the_clock_skips_is_when_it_would_have_been() -> None:
    skipped = Hours(begins_minute=150, ends_minute=240, timezone=ROME)
    opening = skipped.opening_at(at("2030-03-31T03:45:00+02:00"))
    assert opening is not None
    assert opening.start == at("2030-03-31T03:30:00+02:00")


def test_the_next_opening_skips_the_weekend() -> None:
    friday_evening = at("2030-01-04T18:30:00+01:00")
    opening = OFFICE.next_opening(friday_evening)
    assert opening is not None
    assert opening.start == at("2030-01-07T08:00:00+01:00")


def test_the_whole_day_has_no_gap() -> None:
    always = Hours(begins_minute=0, ends_minute=24 * 60, timezone=ROME)
    opening = always.opening_at(at("2030-03-31T21:59:59Z"))
    assert opening is not None
    assert always.opening_at(opening.end) is not None


def test_it_is_told_as_a_person_would() -> None:
    assert str(OFFICE) == "08:00 to 18:00 on mon, tue, wed, thu, fri (Europe/Rome)"
    assert str(Hours(begins_minute=0, ends_minute=60)) == "00:00 to 01:00 (UTC)"


@given(
    st.integers(0, 2 * 365 * 24 * 3600).map(lambda s: NEW_YEAR + timedelta(seconds=s)),
    st.integers(0, 1439),
    st.integers(1, 1440),
    st.sampled_from(["Europe/Rome", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.lists(st.sampled_from(Weekday), min_size=1, unique=True),
)
def test_an_opening_is_one_from_its_start_until_before_its_end(
    now: datetime, begins: int, ends: int, zone: str, days: list[Weekday]
) -> None:
    hours = Hours(begins_minute=begins, ends_minute=ends, days=tuple(days), timezone=ZoneInfo(zone))
    opening = hours.opening_at(now) or hours.next_opening(now)
    assert opening is not None
    if opening.start < opening.end and begins != ends:
        assert hours.opening_at(opening.start) == opening
        assert hours.opening_at(opening.start - timedelta(seconds=1)) != opening
        last = hours.opening_at(opening.end - timedelta(seconds=1))
        assert last is not None
        assert last.end >= opening.end
