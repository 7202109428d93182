# ruff: noqa: PLR0917, PLR1714, SIM110 - compiled functions take no keyword arguments; `in` takes long to compile
"""Where frames are in memory, for the kernel: pcap records, pcapng blocks, frames in a packet socket's ring.

Each returns `FULL`, where the next record is, the frame's place, captured bytes, bytes on the wire, time, and
origin (link type, from bit 16 on the interface, from bit 32 on what a segment of a super-frame carries); or why
there is no frame. A record is used only when all of it is there, and what it says of places was checked.
"""

from collections.abc import Callable
from typing import Any

from transhume.monitor.capture.scan import clocks as clock
from transhume.monitor.capture.scan import counts, links, stops
from transhume.monitor.capture.scan.compiled import plan
from transhume.monitor.capture.scan.compiled.memory import beside, i64, inside, read16, read32, u64

Found = tuple[int, int, int, int, int, int, int]
Finder = Callable[..., Found]

_SECOND_NS = clock.SECOND_NS
_LARGEST, _LAST_NS = links.LARGEST_RECORD, links.LAST_NS
_OLD, _SIMPLE, _ENHANCED = 2, 3, 6
_RING_HEADER, _VIRTIO_BYTES, _VLAN_VALID = 68, 10, 1 << 4
_RAW_HARDWARE = links.RAW_HARDWARE
_RAW, _ETHERNET = int(links.Link.RAW), int(links.Link.ETHERNET)
_LOW_WORD = u64(0xFFFFFFFF)

FULL, MORE, BLOCK = stops.FULL, stops.MORE, stops.BLOCK
FRACTION, TOO_LONG, ODD_LENGTH, LENGTHS_DIFFER = range(stops.FRACTION, stops.LENGTHS_DIFFER + 1)
TOO_SHORT, UNKNOWN_INTERFACE, NO_TIME, LONGER, RING = range(stops.TOO_SHORT, stops.RING + 1)
SEEN, SIMPLE_NS, BORROWED = counts.SEEN, counts.SIMPLE_NS, counts.BORROWED

TICK_NS, HEADER, LINK = plan.TICK_NS, plan.HEADER, plan.LINK
SECTION_FIRST, INTERFACES = plan.SECTION_FIRST, plan.INTERFACES
LEFT, VIRTIO = plan.LEFT, plan.VIRTIO

CLOCK_LINK, SNAPLEN, RULE, BY = clock.LINK, clock.SNAPLEN, clock.RULE, clock.BY
MOST_TICKS, OFFSET_NS, CLOCK_COLUMNS = clock.MOST_TICKS, clock.OFFSET_NS, clock.COLUMNS
MULTIPLY, DIVIDE, NEVER = clock.MULTIPLY, clock.DIVIDE, clock.NEVER


@inside
def _straight(data: Any, at: int) -> Any:
    """Return a 32-bit number, the lowest byte first."""
    return i64(read32(data, at))


@inside
def _swapped(data: Any, at: int) -> Any:
    """Return a 32-bit number, the highest byte first."""
    word, low, second, eight = read32(data, at), u64(0xFF), u64(0xFF00), u64(8)
    outer = (word & low) << u64(24) | (word >> u64(24)) & low
    return i64(outer | (word & second) << eight | (word >> eight) & second)


def _record_reader(u32: Callable[[Any, int], Any]) -> Finder:
    """Return what finds the pcap record at a place, in the byte order that `u32` reads."""

    def find(data: Any, end: int, at: int, told: Any, clocks: Any, state: Any) -> Found:
        tick_ns, place = told[TICK_NS], at + told[HEADER]
        if place > end:
            return MORE, at, at, 0, 0, 0, 0
        captured, fraction_ns = u32(data, at + 8), u32(data, at + 4) * tick_ns
        # Exactly a second is what writers that round a float leave behind.
        if fraction_ns > _SECOND_NS:
            return FRACTION, at, at, 0, 0, 0, 0
        if captured > _LARGEST:
            state[SEEN] = captured
            return TOO_LONG, at, at, 0, 0, 0, 0
        if place + captured > end:
            return MORE, at, at, 0, 0, 0, 0
        at_ns = u32(data, at) * _SECOND_NS + fraction_ns
        return FULL, place + captured, place, captured, u32(data, at + 12), at_ns, told[LINK]

    return find


def _block_reader(u32: Callable[[Any, int], Any], old_shift: int) -> Finder:
    """Return what finds the frame of the pcapng block at a place, in the byte order that `u32` reads.

    Args:
        old_shift: by how many bits the interface's number is shifted in an old packet block's first word.
    """
    simple = beside(_simple_reader(u32))

    def find(data: Any, end: int, at: int, told: Any, clocks: Any, state: Any) -> Found:
        if at + 8 > end:
            return MORE, at, at, 0, 0, 0, 0
        kind, length = u32(data, at), u32(data, at + 4)
        if kind != _ENHANCED and kind != _SIMPLE and kind != _OLD:
            return BLOCK, at, at, 0, 0, 0, 0
        stop = _bad_length(length)
        if stop != FULL:
            state[SEEN] = length
            return stop, at, at, 0, 0, 0, 0
        if at + length > end:
            return MORE, at, at, 0, 0, 0, 0
        if u32(data, at + length - 4) != length:
            return LENGTHS_DIFFER, at, at, 0, 0, 0, 0
        if kind == _SIMPLE:
            return simple(data, at, length, told, clocks, state)
        if length < 32:
            return TOO_SHORT, at, at, 0, 0, 0, 0
        interface = u32(data, at + 8)
        if kind == _OLD:
            interface = interface >> old_shift & 0xFFFF
        number = told[SECTION_FIRST] + interface
        if number >= told[INTERFACES]:
            state[SEEN] = interface
            return UNKNOWN_INTERFACE, at, at, 0, 0, 0, 0
        at_ns = _nanoseconds(u32(data, at + 12), u32(data, at + 16), clocks, number)
        if at_ns < 0:
            return NO_TIME, at, at, 0, 0, 0, 0
        captured, wire = u32(data, at + 20), u32(data, at + 24)
        if captured > length - 32:
            return LONGER, at, at, 0, 0, 0, 0
        state[SIMPLE_NS] = at_ns
        origin = i64(clocks[number * CLOCK_COLUMNS + CLOCK_LINK]) | number << 16
        return FULL, at + length, at + 28, captured, wire, at_ns, origin

    return find


def _simple_reader(u32: Callable[[Any, int], Any]) -> Callable[..., Found]:
    """Return what finds the frame of a simple packet block, which has no time, of the first interface."""

    def find(data: Any, at: int, length: int, told: Any, clocks: Any, state: Any) -> Found:
        number = told[SECTION_FIRST]
        if length < 16:
            return TOO_SHORT, at, at, 0, 0, 0, 0
        if number >= told[INTERFACES]:
            state[SEEN] = 0
            return UNKNOWN_INTERFACE, at, at, 0, 0, 0, 0
        wire, snaplen = u32(data, at + 8), i64(clocks[number * CLOCK_COLUMNS + SNAPLEN])
        captured = wire if wire < length - 16 else length - 16
        if snaplen and snaplen < captured:
            captured = snaplen
        at_ns = state[SIMPLE_NS]
        if at_ns < 0:
            state[BORROWED] += 1
            at_ns = 0
        origin = i64(clocks[number * CLOCK_COLUMNS + CLOCK_LINK]) | number << 16
        return FULL, at + length, at + 12, captured, wire, at_ns, origin

    return find


@inside
def _bad_length(length: int) -> Any:
    if length < 12 or length & 3:
        return ODD_LENGTH
    return TOO_LONG if length > _LARGEST else FULL


@inside
def _nanoseconds(high: int, low: int, clocks: Any, number: int) -> Any:
    """Return a time since the epoch; below 0 where no calendar has it (see `clocks.nanoseconds`)."""
    row, ticks = number * CLOCK_COLUMNS, u64(high << 32 | low)
    if ticks > clocks[row + MOST_TICKS]:
        return -1
    rule, by = i64(clocks[row + RULE]), clocks[row + BY]
    if rule == MULTIPLY:
        found = ticks * by
    elif rule == DIVIDE:
        found = ticks // by
    elif rule == NEVER:
        return -1
    else:
        found = _of_power_of_two(ticks, by)
    at_ns = i64(found) + i64(clocks[row + OFFSET_NS])
    return at_ns if at_ns <= _LAST_NS else -1


@beside
def _of_power_of_two(ticks: Any, exponent: Any) -> Any:
    second, half = u64(_SECOND_NS), u64(32)
    whole, rest = u64(0), ticks
    if exponent < 64:
        whole = (ticks >> exponent) * second
        rest = ticks & ((u64(1) << exponent) - u64(1))
    if exponent < 32:
        return whole + ((rest * second) >> exponent)
    high = (rest >> half) * second + (((rest & _LOW_WORD) * second) >> half)
    return whole + (high >> (exponent - half if exponent < 95 else u64(63)))


@inside
def _is_raw(hardware: int) -> bool:
    for one in _RAW_HARDWARE:
        if hardware == one:
            return True
    return False


@beside
def next_in_ring(data: Any, end: int, at: int, told: Any) -> Found:
    """Find the frame at `at` of a TPACKET_V3 block."""
    if told[LEFT] == 0:
        return MORE, at, at, 0, 0, 0, 0
    if at < 0 or at + _RING_HEADER > end:
        return RING, at, at, 0, 0, 0, 0
    captured, wire = i64(read32(data, at + 12)), i64(read32(data, at + 16))
    place = at + i64(read16(data, at + 24))
    if place - at < _VIRTIO_BYTES or place + captured > end:
        return RING, at, at, 0, 0, 0, 0
    if i64(read32(data, at + 20)) & _VLAN_VALID:
        wire += 4
    origin = _RAW if _is_raw(i64(read16(data, at + 56))) else _ETHERNET
    if told[VIRTIO] and data[place - _VIRTIO_BYTES + 1]:
        origin |= i64(read16(data, place - _VIRTIO_BYTES + 4)) << 32
    at_ns = i64(read32(data, at + 4)) * _SECOND_NS + i64(read32(data, at + 8))
    told[LEFT] -= 1
    return FULL, at + i64(read32(data, at)), place, captured, wire, at_ns, origin


next_record = inside(_record_reader(_straight))
next_swapped_record = beside(_record_reader(_swapped))
next_block = inside(_block_reader(_straight, 0))
next_swapped_block = beside(_block_reader(_swapped, 16))
