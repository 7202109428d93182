"""Where traffic is entered: between two VMs, to or from outside or a named network, multicast, or nobody's.

Owns the numbering of headings and the matrix that their sums make. Every row of an address table, and so every
conversation, has exactly one heading: that is why nothing is lost and nothing is entered twice.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.conversations import Ends
from transhume.analyze.distinct import ranked
from transhume.analyze.identity import NOBODY, Side
from transhume.analyze.networks import Networks
from transhume.knowledge.model import CommunicationMatrix, NetworkTraffic, VmName
from transhume.knowledge.model.traffic import Counts, Rows

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Headings:
    """Headings of address rows: pairs of VMs first, then outside by network and VM, multicast, nobody's."""

    vms: tuple[VmName, ...]
    networks: Networks
    source: Rows
    """The VMs of the pairs, in order: one heading each."""
    destination: Rows
    of_row: Numbers
    """The heading of each address row."""

    @classmethod
    def of(cls, ends: Ends, vms: tuple[VmName, ...], networks: Networks) -> "Headings":
        """Give each address row its heading."""
        count = len(vms)
        sends, receives = ends.source != NOBODY, ends.destination != NOBODY
        pair = ends.source.astype(np.int64) * count + ends.destination
        pairs, number = ranked(pair[sends & receives])
        of_row = np.empty(len(ends.rows), dtype=np.int64)
        of_row[sends & receives] = number
        blocks = (len(networks.names) + 1) * count
        to = sends & ~receives
        of_row[to] = len(pairs) + _outside(ends, to, "destination", networks, count)
        of_row[to] += ends.source[to]
        from_ = receives & ~sends
        of_row[from_] = len(pairs) + blocks + _outside(ends, from_, "source", networks, count)
        of_row[from_] += ends.destination[from_]
        of_row[sends & ends.many] = len(pairs) + 2 * blocks
        of_row[~sends & ~receives] = len(pairs) + 2 * blocks + 1
        return cls(
            vms=vms,
            networks=networks,
            source=(pairs // max(count, 1)).astype(np.int32),
            destination=(pairs % max(count, 1)).astype(np.int32),
            of_row=of_row,
        )

    @property
    def nobodys(self) -> int:
        """The heading of what belongs to no VM."""
        return len(self.source) + 2 * (len(self.networks.names) + 1) * len(self.vms) + 1

    def matrix(
        self,
        heading: Numbers,
        columns: tuple[NDArray[Any], ...],
        *,
        start: datetime,
        seconds: float,
        dropped_frames: int,
    ) -> CommunicationMatrix:
        """Return the matrix of what is entered: bytes, payload bytes, frames, variance by heading."""
        count, payload, frames, variance = (self._sum(heading, column) for column in columns)
        pairs = len(self.source)
        talked = np.flatnonzero((count[:pairs] | payload[:pairs] | frames[:pairs]) != 0)
        to, from_ = count[pairs:-2].reshape(2, len(self.networks.names) + 1, len(self.vms))
        return CommunicationMatrix(
            start=start,
            seconds=seconds,
            vms=self.vms,
            source=self.source[talked],
            destination=self.destination[talked],
            bytes=count[talked],
            payload_bytes=payload[talked],
            frames=frames[talked],
            to_outside=to.sum(axis=0),
            from_outside=from_.sum(axis=0),
            networks=tuple(
                NetworkTraffic(name=name, to=to[number], from_=from_[number])
                for number, name in enumerate(self.networks.names, start=1)
            ),
            multicast_bytes=int(count[-2]),
            unattributed_bytes=int(count[-1]),
            dropped_frames=dropped_frames,
            bytes_error=float(np.sqrt(variance[:pairs].sum())),
        )

    def _sum(self, heading: Numbers, column: NDArray[Any]) -> Counts:
        found = np.zeros(self.nobodys + 1, dtype=column.dtype)
        np.add.at(found, heading, column)
        return found


def _outside(
    ends: Ends, rows: NDArray[np.bool_], side: Side, networks: Networks, count: int
) -> Numbers:
    """Return where the block of headings of each row's network starts; that of no network is the first."""
    network = np.zeros(int(rows.sum()), dtype=np.int64)
    if networks.names:
        family, packed = ends.rows["family"][rows], ends.rows[f"{side}_ip"][rows]
        for version in (4, 6):
            of_version = family == version
            network[of_version] = networks.find(version, packed[of_version]) + 1
    return network * count
