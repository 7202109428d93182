"""The clocks of interfaces: how ticks of a capture become nanoseconds since the epoch.

A row of numbers for each interface, which both engines read. pcapng's ticks are any power of ten or two, from
any second on, in 64 bits without a sign: what isn't a time between 1970 and `LAST_NS` then is damage.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan.head import Interface
from transhume.monitor.capture.scan.links import LAST_NS

LINK, SNAPLEN, RULE, BY, MOST_TICKS, OFFSET_NS = range(6)
"""What the columns of a row are. `BY` is the factor, divisor or exponent that `RULE` wants."""
COLUMNS: Final = 6
MULTIPLY, DIVIDE, POWER_OF_TWO, NEVER = range(4)
"""`NEVER`: all times of this interface are out of any calendar."""

SECOND_NS: Final = 1_000_000_000

Clocks = NDArray[np.uint64]
"""Rows of the columns above; `OFFSET_NS` is in two's complement."""


def clocks_of(interfaces: Sequence[Interface]) -> Clocks:
    """Return the rows of interfaces, in their order."""
    rows = [_row(one) for one in interfaces]
    return np.array(rows, dtype=np.uint64).reshape(-1, COLUMNS)


def _row(interface: Interface) -> tuple[int, ...]:
    rule, by, most = _rule(interface.resolution)
    offset_ns = interface.offset_seconds * SECOND_NS
    if abs(offset_ns) > LAST_NS:
        rule, offset_ns = NEVER, 0
    return interface.link, interface.snaplen, rule, by, most, offset_ns % (1 << 64)


def _rule(resolution: int) -> tuple[int, int, int]:
    """Return rule, number, and the most ticks that fit into the nanoseconds that we count."""
    exponent, anything = resolution & 0x7F, (1 << 64) - 1
    if resolution & 0x80:
        return POWER_OF_TWO, exponent, min((LAST_NS // SECOND_NS << exponent) - 1, anything)
    if exponent <= 9:
        factor = 10 ** (9 - exponent)
        return MULTIPLY, factor, LAST_NS // factor
    divisor = 10 ** (exponent - 9)
    if divisor > anything:  # not even all ticks are a nanosecond
        return POWER_OF_TWO, 127, anything
    return DIVIDE, divisor, min(LAST_NS * divisor, anything)


def nanoseconds(ticks: NDArray[np.uint64], clock: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return ticks of one interface as nanoseconds since the epoch; -1 where no calendar has the time."""
    rule, by = int(clock[RULE]), clock[BY]
    good = ticks <= clock[MOST_TICKS]
    if rule == MULTIPLY:
        found = ticks * by
    elif rule == DIVIDE:
        found = ticks // by
    else:
        found = _of_power_of_two(ticks, int(by))
    # A sum that doesn't fit into 64 bits wraps round to below 0, because both are within LAST_NS of 0.
    offset_ns = clock[OFFSET_NS : OFFSET_NS + 1].view(np.int64)
    found_ns = np.where(good, found, np.uint64(0)).view(np.int64) + offset_ns
    good &= (found_ns >= 0) & (found_ns <= LAST_NS)
    return np.where(good & (rule != NEVER), found_ns, np.int64(-1))


def _of_power_of_two(ticks: NDArray[np.uint64], exponent: int) -> NDArray[np.uint64]:
    """Return `ticks * 10**9 >> exponent` without the 94 bits that it takes on the way."""
    second = np.uint64(SECOND_NS)
    if exponent < 64:
        shift = np.uint64(exponent)
        whole = (ticks >> shift) * second
        rest = ticks & np.uint64((1 << exponent) - 1)
    else:
        whole, rest = np.zeros_like(ticks), ticks
    if exponent < 32:
        return whole + (rest * second >> np.uint64(exponent))
    low = (rest & np.uint64(0xFFFFFFFF)) * second
    high = (rest >> np.uint64(32)) * second + (low >> np.uint64(32))
    return whole + (high >> np.uint64(min(exponent - 32, 63)))
