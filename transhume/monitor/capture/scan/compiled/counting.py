# ruff: noqa: PLR0915, PLR0917, PLR1730 - compiled functions take no keyword arguments; `min` takes long to compile
"""Counting the frames of a group: their rows, their pairs' numbers, and what is added to which cell.

Frames that are most of any capture (Ethernet, VLAN tags, whole IPv4 or IPv6 packets of TCP or UDP) are read
right here, in as few instructions as they take; `decode` reads all others. The table of pairs is open
addressing over rows as six words, compared in full: no two pairs are ever taken for one. What words are
multiplied by is drawn anew in each process, so that nobody can send addresses that all meet in one place.
"""

from typing import Any

from transhume.monitor.capture.scan import counts, decode, stops
from transhume.monitor.capture.scan.compiled import plan
from transhume.monitor.capture.scan.compiled.framing import (
    next_block,
    next_in_ring,
    next_record,
    next_swapped_block,
    next_swapped_record,
)
from transhume.monitor.capture.scan.compiled.memory import (
    beside,
    compiled,
    i64,
    inside,
    prefetch,
    read16,
    read32,
    read64,
    u64,
)

_decode = compiled(decode)["decode"]

PAIRS, CELLS, RUNS, EPOCH = counts.PAIRS, counts.CELLS, counts.RUNS, counts.EPOCH
BIN, BIN_START_NS = counts.BIN, counts.BIN_START_NS
FRAMES, BYTES, UNREADABLE = counts.FRAMES, counts.BYTES, counts.UNREADABLE
FIRST_NS, LAST_FRAME_NS = counts.FIRST_NS, counts.LAST_FRAME_NS
INNER, CAPTURED_LENGTH = plan.INNER, plan.CAPTURED_LENGTH
WIDTH_NS, SLOTS, GROUP, GROUP_COLUMNS = plan.WIDTH_NS, plan.SLOTS, plan.GROUP, plan.GROUP_COLUMNS
FRAME_CLAIM, SLOT, CELL, LENGTH = plan.FRAME_CLAIM, plan.SLOT, plan.CELL, plan.LENGTH
PAYLOAD, RARE = plan.PAYLOAD, plan.RARE
JOB, PCAP, PCAPNG, FULL = plan.JOB, plan.PCAP, plan.PCAPNG, stops.FULL
SWAPPED_PCAP, SWAPPED_PCAPNG = plan.SWAPPED_PCAP, plan.SWAPPED_PCAPNG
SLOT_WORDS, SLOT_EPOCH, SLOT_NUMBERS = plan.SLOT_WORDS, plan.SLOT_EPOCH, plan.SLOT_NUMBERS
ROW, WORDS = decode.ROW, counts.WORDS

# Words as they come out of memory, the first byte the lowest.
_0, _8, _16, _24, _32, _48 = (u64(bits) for bits in (0, 8, 16, 24, 32, 48))
_IPV4, _IPV6 = u64(0x0008), u64(0xDD86)
_TAG = u64(0x0081)
_BOTH_MACS = u64(3 << 40)
_FAMILY_4, _FAMILY_6 = u64(4 << 32), u64(6 << 32)
_PLAIN_BITS, _PLAIN_IPV4 = u64(0xFF1F << 48 | 0xFF), u64(0x45)
"""Of an IPv4 header's first eight bytes: version, length, fragment's offset; without options, the first."""
_VERSION, _VERSION_6 = u64(0xF0), u64(0x60)
_FAMILY_AND_FLAGS = u64(0xFFFF)
_LOW_BYTE, _LOW_HALF = u64(0xFF), u64(0xFFFFFFFF)
_DHCP_ANSWER, _VXLAN = u64(0x4400_4300), u64(0xB512)
_ETHERNET, _TCP, _UDP = 1, 6, 17
_LEAST, _IPV4_AND_TCP, _IPV6_AND_TCP = 14 + 20, 20 + 13, 40 + 13
"""Bytes of a frame that is looked at here, and of a packet up to the length of TCP's header."""


@inside
def read_group(
    data: Any,
    end: int,
    at: int,
    told: Any,
    clocks: Any,
    group: Any,
    slots: Any,
    odd: Any,
    rows: Any,
    cells: Any,
    runs: Any,
    state: Any,
    out: Any,
) -> tuple[int, int, int]:
    """Find frames and write their rows and counts to the group, and begin to fetch their slots.

    All frames of a group are of one bin: what was found before a frame of another bin is added at once. No more
    than a group's frames are read in all, for that is what there is room for.

    Returns:
        where that ended, how many frames are in the group, and why it ended.
    """
    job, mask, width = told[JOB], told[SLOTS] - 1, u64(told[WIDTH_NS])
    inner, captured_length = told[INNER] != 0, told[CAPTURED_LENGTH] != 0
    bin_start, earliest, latest = state[BIN_START_NS], state[FIRST_NS], state[LAST_FRAME_NS]
    found, stop = 0, FULL
    for _ in range(GROUP):
        if job == PCAP:
            stop, after, place, captured, wire, at_ns, origin = next_record(
                data, end, at, told, clocks, state
            )
        elif job == PCAPNG:
            stop, after, place, captured, wire, at_ns, origin = next_block(
                data, end, at, told, clocks, state
            )
        elif job == SWAPPED_PCAP:
            stop, after, place, captured, wire, at_ns, origin = next_swapped_record(
                data, end, at, told, clocks, state
            )
        elif job == SWAPPED_PCAPNG:
            stop, after, place, captured, wire, at_ns, origin = next_swapped_block(
                data, end, at, told, clocks, state
            )
        else:
            stop, after, place, captured, wire, at_ns, origin = next_in_ring(data, end, at, told)
        if stop != FULL:
            break
        at = after
        if u64(at_ns - bin_start) >= width:
            add_group(found, told, group, slots, odd, rows, cells, state)
            found = 0
            bin_start = _begin_run(at_ns, told, runs, state)
        if at_ns < earliest:
            earliest = at_ns
        if at_ns > latest:
            latest = at_ns
        row = found * GROUP_COLUMNS
        found += 1
        a, b, c, d, e, f, payload = _0, _0, _0, _0, _0, _0, -1
        if origin & 0xFFFF == _ETHERNET and captured >= _LEAST:
            # The usual tag without a branch, which nobody could foresee.
            tagged = (read16(data, place + 12) == _TAG) & (captured >= _LEAST + 4)
            here = place + 14 + 4 * i64(tagged)
            kind, left = read16(data, here - 2), place + captured - here
            if kind == _IPV4 and left >= _IPV4_AND_TCP:
                payload = _ipv4_payload(data, here, inner)
                b, c, e = _FAMILY_4, read32(data, here + 12), read32(data, here + 16)
            elif kind == _IPV6 and left >= _IPV6_AND_TCP:
                payload = _ipv6_payload(data, here, inner)
                b, c, d = _FAMILY_6, read64(data, here + 8), read64(data, here + 16)
                e, f = read64(data, here + 24), read64(data, here + 32)
            a = read64(data, place)
            b |= read32(data, place + 8) | _BOTH_MACS | u64(origin >> 16 & 0xFFFF) << _48
        before = 0
        if payload < 0:
            before, payload = _read_rare(
                data, place, captured, wire, origin, inner, group, row, state, out
            )
            a, b, c = group[row], group[row + 1], group[row + 2]
            d, e, f = group[row + 3], group[row + 4], group[row + 5]
        else:
            group[row], group[row + 1], group[row + 2] = a, b, c
            group[row + 3], group[row + 4], group[row + 5] = d, e, f
        slot = _place(a, b, c, d, e, f, odd) & mask
        prefetch(slots, slot * SLOT_WORDS)
        length, segment = (captured if captured_length else wire) - before, origin >> 32
        if segment and payload > segment:  # a super-frame
            more = (payload - 1) // segment
            headers = wire - before - payload
            if headers > 0:
                length += more * headers
            group[row + RARE] |= u64(more << 1)
        group[row + SLOT], group[row + LENGTH], group[row + PAYLOAD] = (
            u64(slot),
            u64(length),
            u64(payload),
        )
    state[FIRST_NS], state[LAST_FRAME_NS] = earliest, latest
    return at, found, stop


@beside
def _read_rare(
    data: Any,
    place: int,
    captured: int,
    wire: int,
    origin: int,
    inner: bool,
    group: Any,
    row: int,
    state: Any,
    out: Any,
) -> tuple[int, int]:
    """Have `decode` read a frame, and write its row and its claim's to the group."""
    before, payload, claims = _decode(
        data, place, captured, wire, origin & 0xFFFF, origin >> 16 & 0xFFFF, inner, out
    )
    for word in range(WORDS):
        group[row + word] = read64(out, 8 * word)
    if group[row + 1] >> _32 & _FAMILY_AND_FLAGS == _0:
        state[UNREADABLE] += 1
    if claims:
        group[row + RARE] = u64(1)
        for word in range(WORDS):
            group[row + FRAME_CLAIM + word] = read64(out, ROW + 8 * word)
    return before, payload


@beside
def add_group(
    found: int,
    told: Any,
    group: Any,
    slots: Any,
    odd: Any,
    rows: Any,
    cells: Any,
    state: Any,
) -> None:
    """Add what the group says to the cells of its pairs."""
    epoch, mask = u64(state[EPOCH]), told[SLOTS] - 1
    all_bytes, all_frames = state[BYTES], state[FRAMES] + found
    for i in range(found):
        row = i * GROUP_COLUMNS
        slot = _slot_of(i64(group[row + SLOT]), group, row, slots, mask, rows, state)
        cell = _cell_of(slot, epoch, slots, cells, state)
        prefetch(cells, cell)
        group[row + CELL] = u64(cell)
        rare = i64(group[row + RARE])
        if rare:
            group[row + RARE] = _0
            cells[cell + 3] += rare >> 1
            all_frames += rare >> 1
            if rare & 1:
                _add_claim(row + FRAME_CLAIM, epoch, group, slots, mask, odd, rows, cells, state)
    for i in range(found):
        row = i * GROUP_COLUMNS
        cell = i64(group[row + CELL])
        length, payload = i64(group[row + LENGTH]), i64(group[row + PAYLOAD])
        cells[cell + 1] += length
        cells[cell + 2] += payload
        cells[cell + 3] += 1
        all_bytes += length
    state[BYTES] = all_bytes
    state[FRAMES] = all_frames


@beside
def _add_claim(
    row: int,
    epoch: Any,
    group: Any,
    slots: Any,
    mask: int,
    odd: Any,
    rows: Any,
    cells: Any,
    state: Any,
) -> None:
    """Give the pair of a claim a cell of nothing."""
    place = _place(
        group[row],
        group[row + 1],
        group[row + 2],
        group[row + 3],
        group[row + 4],
        group[row + 5],
        odd,
    )
    slot = _slot_of(place & mask, group, row, slots, mask, rows, state)
    _cell_of(slot, epoch, slots, cells, state)


@beside
def _begin_run(at_ns: int, told: Any, runs: Any, state: Any) -> Any:
    """Let cells from now on belong to the bin of a time; return the bin's begin."""
    number, run = at_ns // told[WIDTH_NS], state[RUNS]
    runs[2 * run] = state[CELLS]
    runs[2 * run + 1] = number
    state[RUNS] = run + 1
    state[EPOCH] += 1
    state[BIN] = number
    state[BIN_START_NS] = number * told[WIDTH_NS]
    return state[BIN_START_NS]


@inside
def _ipv4_payload(data: Any, at: int, inner: bool) -> Any:
    """Return what the transport carries; -1 where this isn't for the quick way."""
    start, protocol, ports = read64(data, at), i64(data[at + 9]), read32(data, at + 20)
    total = i64((start >> _8) & u64(0xFF00) | (start >> _24) & _LOW_BYTE)
    if start & _PLAIN_BITS != _PLAIN_IPV4 or total == 0:
        return -1
    if (ports == _DHCP_ANSWER) & (protocol == _UDP):
        return -1
    if inner and (protocol != _TCP and (protocol != _UDP or ports >> _16 == _VXLAN)):
        return -1
    length = total - 20 - _transport_header(data, at + 20, protocol)
    return length if length > 0 else 0


@inside
def _ipv6_payload(data: Any, at: int, inner: bool) -> Any:
    start = read64(data, at)
    length = i64((start >> _24) & u64(0xFF00) | (start >> u64(40)) & _LOW_BYTE)
    protocol = i64(start >> _48 & _LOW_BYTE)
    if start & _VERSION != _VERSION_6 or length == 0:
        return -1
    if protocol != _TCP and (protocol != _UDP or inner):
        return -1
    length -= _transport_header(data, at + 40, protocol)
    return length if length > 0 else 0


@inside
def _transport_header(data: Any, at: int, protocol: int) -> Any:
    """Return the bytes of a TCP or UDP header, without asking which it is."""
    tcp = i64(data[at + 12]) // 16 * 4
    return tcp * (protocol == _TCP) + 8 * (protocol == _UDP)


@inside
def _place(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, odd: Any) -> Any:
    """Return where in the table to look for a row, before it is cut to the table's size."""
    mixed = a * odd[0] + b * odd[1] + c * odd[2] + d * odd[3] + e * odd[4] + f * odd[5]
    return i64(((mixed ^ mixed >> _32) * odd[6]) >> _32)


@inside
def _slot_of(place: int, words: Any, row: int, slots: Any, mask: int, rows: Any, state: Any) -> Any:
    """Return the slot of the row that is in `words`, from `place` on; it is put there when it is new."""
    a, b, c = words[row], words[row + 1], words[row + 2]
    d, e, f = words[row + 3], words[row + 4], words[row + 5]
    while True:
        slot = place * SLOT_WORDS
        different = (slots[slot] ^ a) | (slots[slot + 1] ^ b) | (slots[slot + 2] ^ c)
        different |= (slots[slot + 3] ^ d) | (slots[slot + 4] ^ e) | (slots[slot + 5] ^ f)
        if slots[slot + SLOT_NUMBERS] == _0:
            _fill_slot(slot, words, row, slots, rows, state)
            return slot
        if different == _0:
            return slot
        place = (place + 1) & mask


@beside
def _fill_slot(slot: int, words: Any, row: int, slots: Any, rows: Any, state: Any) -> None:
    """Put a new pair into an empty slot, and give it its number."""
    pair = state[PAIRS]
    state[PAIRS] = pair + 1
    for word in range(WORDS):
        slots[slot + word] = words[row + word]
        rows[pair * WORDS + word] = words[row + word]
    slots[slot + SLOT_NUMBERS] = u64(pair + 1) << _32


@inside
def _cell_of(slot: int, epoch: Any, slots: Any, cells: Any, state: Any) -> Any:
    """Return where in the cells the pair's one of this run is; a new one is begun if there is none."""
    numbers = slots[slot + SLOT_NUMBERS]
    if slots[slot + SLOT_EPOCH] == epoch:
        return i64(numbers & _LOW_HALF) * 4
    number = state[CELLS]
    state[CELLS] = number + 1
    slots[slot + SLOT_EPOCH] = epoch
    slots[slot + SLOT_NUMBERS] = (numbers >> _32 << _32) | u64(number)
    cell = number * 4
    cells[cell] = i64(numbers >> _32) - 1
    cells[cell + 1] = 0
    cells[cell + 2] = 0
    cells[cell + 3] = 0
    return cell


@beside
def rebuild(told: Any, slots: Any, odd: Any, rows: Any, state: Any) -> None:
    """Put all pairs into an empty table."""
    pairs, mask = state[PAIRS], told[SLOTS] - 1
    state[PAIRS] = 0
    for pair in range(pairs):
        row = pair * WORDS
        place = _place(
            rows[row],
            rows[row + 1],
            rows[row + 2],
            rows[row + 3],
            rows[row + 4],
            rows[row + 5],
            odd,
        )
        _slot_of(place & mask, rows, row, slots, mask, rows, state)
