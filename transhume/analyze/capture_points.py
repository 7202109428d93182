"""What a capture point is: the tap of a VM's interface, or a place where the traffic of many passes.

Someone may have told (an inventory knows the device at the end of each interface). Otherwise a point is taken
for the tap of a MAC address that is at one end of nearly all that it saw; broadcast, multicast and floods,
which every tap sees, aside. A point with little to see may look like the tap of two: a VM's, and that of the
only machine it talks to. Owns the judgement for all points of some sightings.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.conversations import Ends
from transhume.analyze.distinct import added, ranked
from transhume.analyze.identity import NOBODY, Identities, has_mac, mac_numbers, packed_mac
from transhume.analyze.seen_rows import SeenRows
from transhume.analyze.sightings import Sightings
from transhume.knowledge.model import MacAddress
from transhume.knowledge.model.traffic import Counts, Rows

NEARLY_ALL = 0.95
_MOST_TAPS = 2
"""More MAC addresses than two can't be at an end of nearly all frames."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Of which interfaces each capture point is the tap."""

    number: Mapping[str, int]
    """The row of `interfaces` for each capture point."""
    interfaces: Rows
    """Up to two places in `Identities.macs`, -1 for none."""
    told: NDArray[np.bool_]
    """Whether somebody told so."""

    @classmethod
    def of(
        cls,
        sightings: Sightings,
        ends: Ends,
        identities: Identities,
        told: Mapping[str, MacAddress],
    ) -> "Taps":
        """Judge capture points by what was told of them or, where nothing was, by what they saw."""
        number = {point: row for row, point in enumerate(sightings.points)}
        interfaces = np.full((len(number), _MOST_TAPS), NOBODY, dtype=np.int32)
        known = np.array([point in told for point in number], dtype=bool)
        unicast = _Unicast.of(ends)
        for point in number.keys() & told.keys():  # also where it saw nothing, having dropped all
            interfaces[number[point], 0] = _place(told[point], identities)
        for point, seen in sightings.by_point():
            if point not in told:
                found = _nearly_always_there(*unicast.at(seen))
                interfaces[number[point], : len(found)] = found
        return cls(number, interfaces, known)


def _place(mac: MacAddress, identities: Identities) -> int:
    packed = packed_mac(mac)
    found = np.flatnonzero(identities.macs == int.from_bytes(packed or b"", "big"))
    return int(found[0]) if packed and len(found) else NOBODY


@dataclass(frozen=True, slots=True)
class _Unicast:
    """Address rows as frames from one machine to another."""

    ends: Ends
    is_one: NDArray[np.bool_]
    """Which rows are unicast with both MAC addresses."""
    source: NDArray[np.intp]
    """A number for each MAC address, whoever's."""
    destination: NDArray[np.intp]

    @classmethod
    def of(cls, ends: Ends) -> "_Unicast":
        rows = ends.rows
        macs = [mac_numbers(rows[name]) for name in ("source_mac", "destination_mac")]
        _, number = ranked(np.concatenate(macs))
        both = has_mac(rows, "source") & has_mac(rows, "destination")
        return cls(ends, both & ~ends.many, number[: len(rows)], number[len(rows) :])

    def at(self, seen: SeenRows) -> tuple[Rows, Rows, Counts]:
        """Return the interfaces at both ends of what a point saw, and the bytes; without floods, if possible.

        A bridge floods to all taps what is for a machine that it hasn't heard of yet. Once that machine has
        answered, it doesn't any more: at the taps of others there is no answer.
        """
        kept = np.flatnonzero(self.is_one[seen.pair] & (seen.bytes > 0))
        pair, count = seen.pair[kept], seen.bytes[kept]
        answered = _answered(self.source[pair], self.destination[pair])
        if answered.any():
            pair, count = pair[answered], count[answered]
        return self.ends.source_interface[pair], self.ends.destination_interface[pair], count


def _answered(source: NDArray[np.intp], destination: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Say of each pair whether there is one the other way round."""
    most = int(max(source.max(initial=0), destination.max(initial=0))) + 1
    _, machines = ranked(np.minimum(source, destination) * most + np.maximum(source, destination))
    there, back = source <= destination, source >= destination
    went = np.zeros(len(source), dtype=bool)
    came = np.zeros(len(source), dtype=bool)
    went[machines[there]] = True
    came[machines[back]] = True
    return (went & came)[machines]


def _nearly_always_there(source: Rows, destination: Rows, count: Counts) -> Rows:
    """Return the interfaces that are at an end of nearly all bytes, the surest first."""
    to_itself = source == destination
    ends: Rows = np.concatenate([source, destination[~to_itself]])
    interface, (there,) = added(ends, [np.concatenate([count, count[~to_itself]])])
    enough = (interface != NOBODY) & (there >= NEARLY_ALL * count.sum())
    order = np.argsort(-there[enough], kind="stable")
    surest: Rows = interface[enough][order[:_MOST_TAPS]]
    return surest
