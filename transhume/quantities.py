"""Quantities as people write them, with their unit: `45m`, `20MB/s`, `12.0/h`, `5%`; and the way back.

Owns the spelling of units in policies, deployments, price files and on the terminal. A quantity without a
unit is refused rather than guessed. Decimal prefixes count by 1000 (`MB`), binary ones by 1024 (`MiB`).
It knows nothing of files: whoever reads one adds the position to the `ValueError`.
"""

import math
import re
from datetime import UTC, datetime, timedelta

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_LARGEST = 1e15

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"\s?".join(f"(?:{_NUMBER} ?{unit})?" for unit in _SECONDS))
_LONGEST = 100 * 365 * _SECONDS["d"]

_MINUTES_A_DAY = 24 * 60

_BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_BINARY_BYTES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_BITS = {"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_RATE = re.compile(rf"{_NUMBER} ?([A-Za-z]+)(/s)?")

_SPECK_DOLLARS = 0.00005
"""Less than this an hour is 44 cents a year: beside a bill it would only look like a figure."""


def parse_duration(text: str) -> float:
    """Return the seconds in `45m`, `500ms` or `1h 30m` (units from the largest to the smallest).

    Raises:
        ValueError: what was seen is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None or not text or text.endswith(" "):
        raise _wrong(text, "duration", "45m, 120s, 6h, 7d or 500ms")
    amounts = (part and _finite(text, part) for part in found.groups())
    seconds = math.fsum(
        float(amount) * unit
        for amount, unit in zip(amounts, _SECONDS.values(), strict=True)
        if amount
    )
    if seconds > _LONGEST:
        raise ValueError(f"{text} is longer than a century; write a shorter duration, such as 7d")
    return seconds


def parse_rate(text: str) -> float:
    """Return the bytes per second in `20MB/s`, `64KiB/s`, `100mbit` or `1Gbit/s`.

    Raises:
        ValueError: what was seen is no rate, or doesn't say whether it means bits or bytes.
    """
    found = _RATE.fullmatch(text)
    amount, unit, per_second = found.groups() if found else ("", "", None)
    if per_second and unit in (_BYTES | _BINARY_BYTES):
        return _finite(text, amount) * (_BYTES | _BINARY_BYTES)[unit]
    if unit.lower() in _BITS:
        return _finite(text, amount) * _BITS[unit.lower()] / 8
    if amount and not per_second and unit in (_BYTES | _BINARY_BYTES):
        raise ValueError(f"{_seen(text)} is an amount, not a rate; write {amount}{unit}/s")
    if re.fullmatch(r"[kmg]?(b|bps)", unit.lower()):
        raise ValueError(
            f"{_seen(text)} may mean bits or bytes; write 20MB/s for bytes or 20mbit for bits"
        )
    raise _wrong(text, "rate", "20MB/s, 64KiB/s, 100mbit or 1Gbit/s")


def parse_bytes(text: str) -> int:
    """Return the bytes in `512MiB` or `4GB`.

    Raises:
        ValueError: what was seen is no amount of bytes.
    """
    found = _RATE.fullmatch(text)
    amount, unit, per_second = found.groups() if found else ("", "", None)
    if per_second or unit not in (_BYTES | _BINARY_BYTES):
        raise _wrong(text, "amount of memory", "512MiB or 4GB")
    return int(_finite(text, amount) * (_BYTES | _BINARY_BYTES)[unit])


def parse_dollars_per_hour(text: str) -> float:
    """Return the dollars an hour in `12.0/h`."""
    return _suffixed(text, "/h", "price per hour", "12.0/h")


def parse_dollars_per_gb(text: str) -> float:
    """Return the dollars for 10^9 bytes in `0.09/GB`."""
    return _suffixed(text, "/GB", "price per gigabyte", "0.09/GB")


def parse_dollars_per_gb_ms(text: str) -> float:
    """Return the dollars for sending 10^9 bytes over a round trip of a millisecond in `0.001/GB/ms`."""
    return _suffixed(text, "/GB/ms", "worth of a millisecond", "0.001/GB/ms")


def parse_dollars_per_gib_hour(text: str) -> float:
    """Return the dollars for holding 2^30 bytes for an hour in `0.005/GiB/h`."""
    return _suffixed(text, "/GiB/h", "price of memory", "0.005/GiB/h")


def parse_share(text: str) -> float:
    """Return the fraction in `5%`: 0.05. A share is between 0% and 100%."""
    share = _suffixed(text, "%", "share", "5%") / 100
    if share > 1:
        raise ValueError(f"{text} is more than the whole; write a share from 0% to 100%")
    return share


def parse_instant(text: str) -> datetime:
    """Return the instant in `2030-01-01T18:00Z`, in UTC.

    Raises:
        ValueError: what was seen is no instant, or has no time zone.
    """
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _wrong(text, "instant", "2030-01-01T18:00Z") from None
    raise ValueError(
        f"{text} has no time zone; write it as in 2030-01-01T18:00Z or 2030-01-01T18:00+02:00"
    )


def parse_time_of_day(text: str) -> int:
    """Return the minutes after midnight in `08:00`; `24:00` is the end of a day.

    Raises:
        ValueError: what was seen is no time of day.
    """
    found = re.fullmatch(r"([01][0-9]|2[0-4]):([0-5][0-9])", text)
    minutes = int(found[1]) * 60 + int(found[2]) if found else None
    if minutes is None or minutes > _MINUTES_A_DAY:
        raise ValueError(f"{_seen(text)} is no time of day; write it as in '08:00' or '17:30'")
    return minutes


def parse_moment(text: str) -> timedelta | datetime:
    """Return the duration since some start in `45m`, or the instant in `2030-01-01T18:00Z`.

    Raises:
        ValueError: what was seen is neither.
    """
    if "T" in text or "-" in text[1:]:
        return parse_instant(text)
    try:
        return timedelta(seconds=parse_duration(text))
    except ValueError as error:
        raise ValueError(f"{error}; or write an instant, as in 2030-01-01T18:00Z") from error


def format_count(count: int, noun: str) -> str:
    """Write how many of something there are: `1 VM`, `1,024 VMs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_duration(seconds: float) -> str:
    """Write a duration in its one or two largest units: `500ms`, `45s`, `2m 5s`, `1h 30m`, `3d`."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if not math.isfinite(seconds):
        return "forever"
    if seconds == 0:
        return "0s"
    if seconds < 0.9995:
        return f"{round(seconds * 1000)}ms" if seconds >= 0.001 else "<1ms"
    if seconds < 10 and round(seconds, 1) % 1:
        return f"{seconds:.1f}s"
    return _in_two_units(seconds)


def format_bytes(count: float) -> str:
    """Write an amount of bytes with a decimal prefix and three figures: `1.5 GB`, `820 kB`."""
    return f"-{format_bytes(-count)}" if count < 0 else _prefixed(count)


def format_rate(bytes_per_second: float) -> str:
    """Write bytes per second with a decimal prefix: `20 MB/s`."""
    return f"{format_bytes(bytes_per_second)}/s"


def format_dollars_per_hour(dollars: float) -> str:
    """Write money per hour: `$12.00/h`; amounts below a dime keep two figures, and specks are nothing."""
    size = abs(dollars)
    if size < _SPECK_DOLLARS:
        return "$0.00/h"
    sign = "-" if dollars < 0 else ""
    if size >= 0.1:
        return f"{sign}${size:,.2f}/h"
    places = 1 - math.floor(math.log10(size))
    return f"{sign}${size:.{places}f}/h"


def _suffixed(text: str, suffix: str, kind: str, example: str) -> float:
    found = re.fullmatch(_NUMBER + " ?" + re.escape(suffix), text)
    if found is None:
        raise _wrong(text, kind, example)
    return _finite(text, found.group(1))


def _finite(text: str, number: str) -> float:
    amount = float(number)
    if amount > _LARGEST:
        raise ValueError(f"{_seen(text)} is larger than anything that we can reckon with")
    return amount


def _wrong(text: str, kind: str, example: str) -> ValueError:
    kind = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    if text.startswith("-"):
        return ValueError(f"{_seen(text)} is negative; {kind} is 0 or more, such as {example}")
    if re.fullmatch(_NUMBER, text):
        return ValueError(f"{_seen(text)} has no unit; write {kind} with one, such as {example}")
    return ValueError(f"{_seen(text)} is not {kind}; write it as in {example}")


def _seen(text: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return repr(shown) if not shown or not shown.isprintable() or " " in shown else shown


def _in_two_units(seconds: float) -> str:
    rest = _rounded_for_two_units(seconds)
    parts = []
    for unit in ("d", "h", "m", "s"):
        amount, rest = divmod(rest, int(_SECONDS[unit]))
        parts.append((amount, unit))
    first = next(place for place, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount}{unit}" for amount, unit in parts[first : first + 2] if amount)


def _rounded_for_two_units(seconds: float) -> int:
    """Round to the smaller of the two units shown, so that nobody reads `59m 60s`."""
    grain = 1
    if seconds >= _SECONDS["d"]:
        grain = 3600
    elif seconds >= _SECONDS["h"]:
        grain = 60
    return round(seconds / grain) * grain


def _prefixed(count: float) -> str:
    unit = "B"
    for larger, size in _BYTES.items():
        if count >= size * 0.9995 or larger == "B":
            unit = larger
    amount = count / _BYTES[unit]
    figures = f"{amount:.3g}" if amount < 999.5 else f"{amount:.0f}"
    return f"{figures} {unit}"
