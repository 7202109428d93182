"""Windows of traffic between addresses, as one matrix between VMs.

Owns the adding up. A frame that passes several capture points is in the windows of each: of a conversation in a
time bin, the largest sighting counts. So that a frame is known again behind a router, which puts other MAC
addresses on it, a conversation is identified by its two VMs and their IP addresses, and by MAC addresses only
where it has no IP addresses. Sightings of one capture point add up.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from transhume.analyze.identity import Identities, is_multicast
from transhume.knowledge.model import CommunicationMatrix, PairTraffic, TrafficWindow, Vm

_Conversation = tuple[datetime, float, int | None, int | None, str, str, bool]
"""Time bin, rows, addresses, and whether the destination is many."""
_Amount = tuple[int, int]
"""Bytes and frames, compared by bytes."""


def build_matrix(
    windows: Iterable[TrafficWindow], vms: Iterable[Vm], *, start: datetime, seconds: float
) -> CommunicationMatrix:
    """Add windows up to a matrix whose rows are the VMs, in their order.

    `start` and `seconds` say which stretch of time the windows cover; all windows given are counted.
    """
    identities = Identities(vms)
    sightings: dict[_Conversation, dict[str, _Amount]] = defaultdict(dict)
    dropped = 0
    for window in windows:
        dropped += window.dropped_frames
        for pair in window.pairs:
            at_point = sightings[_conversation(window, pair, identities)]
            bytes_before, frames_before = at_point.get(window.capture_point, (0, 0))
            at_point[window.capture_point] = (
                bytes_before + pair.bytes,
                frames_before + pair.frames,
            )
    names = tuple(vm.name for vm in identities.vms)
    empty = CommunicationMatrix.empty(start=start, seconds=seconds, vms=names)
    return _filled(replace(empty, dropped_frames=dropped), sightings)


def _conversation(
    window: TrafficWindow, pair: PairTraffic, identities: Identities
) -> _Conversation:
    many = is_multicast(pair.destination)
    return (
        window.start,
        window.seconds,
        identities.row(pair.source),
        None if many else identities.row(pair.destination),
        pair.source.ip or pair.source.mac,
        pair.destination.ip or pair.destination.mac,
        many,
    )


def _filled(
    empty: CommunicationMatrix, sightings: dict[_Conversation, dict[str, _Amount]]
) -> CommunicationMatrix:
    """Return the matrix with the largest sighting of each conversation put where it belongs."""
    multicast = unattributed = 0
    for (_, _, row, column, _, _, many), at_points in sightings.items():
        count, frames = max(at_points.values())
        if row is not None and column is not None:
            empty.bytes[row, column] += count
            empty.frames[row, column] += frames
        elif row is not None and many:
            multicast += count
        elif row is not None:
            empty.to_outside[row] += count
        elif column is not None:
            empty.from_outside[column] += count
        else:
            unattributed += count
    return replace(empty, multicast_bytes=multicast, unattributed_bytes=unattributed)
