"""Address rows as conversations between VMs: whose each end is, and which rows are legs of one way.

A router puts its own MAC addresses on a frame that it passes on, so that one frame is in several rows, one for
each leg of its way. A conversation is what stays the same: the two VMs and their IP addresses, or MAC addresses
where there are no IP addresses. Rows of one leg add up; legs are sightings of the same frames. Owns the
numbering of conversations and legs, for all rows of an address table at once.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.distinct import Words, distinct, words_of
from transhume.analyze.identity import NOBODY, Identities, Side, has_mac, is_many
from transhume.knowledge.model import AddressPairs
from transhume.knowledge.model.traffic import Rows

FIRST_LEG, LAST_LEG, MIDDLE_LEG = 0, 1, 2
"""As the source sent it; as it reaches the destination, passed on; in between."""
LEGS = 3
_LOWER_HALF = np.uint64((1 << 32) - 1)


@dataclass(frozen=True)
class Ends:
    """Whose the two ends of address rows are."""

    rows: AddressPairs
    source: Rows
    """The VM that sends, -1 where it is none."""
    destination: Rows
    many: NDArray[np.bool_]
    """True where the destination is broadcast or multicast, and so no VM."""
    source_interface: Rows
    """The place of the source's MAC address in `Identities.macs`, -1 where it is no VM's."""
    destination_interface: Rows

    @classmethod
    def of(cls, rows: AddressPairs, identities: Identities) -> "Ends":
        """Find whose the ends are, by MAC address and, where it is no VM's, by IP address."""
        many = is_many(rows, "destination")
        source_interface = identities.interfaces(rows, "source")
        destination_interface = identities.interfaces(rows, "destination")
        destination = _vms(rows, "destination", destination_interface, identities)
        destination[many] = NOBODY
        return cls(
            rows=rows,
            source=_vms(rows, "source", source_interface, identities),
            destination=destination,
            many=many,
            source_interface=source_interface,
            destination_interface=destination_interface,
        )

    @cached_property
    def leg(self) -> NDArray[np.uint8]:
        """Which leg of its way each row is."""
        rows = self.rows
        passed_on = has_mac(rows, "source") & (self.source_interface == NOBODY)
        to_pass_on = has_mac(rows, "destination") & (self.destination_interface == NOBODY)
        leg = np.where(to_pass_on, MIDDLE_LEG, LAST_LEG).astype(np.uint8)
        leg[(self.source != NOBODY) & ~passed_on] = FIRST_LEG
        leg[self.many] = FIRST_LEG
        leg[(self.source == NOBODY) & (self.destination == NOBODY)] = FIRST_LEG
        return leg

    @property
    def may_repeat(self) -> bool:
        """Say whether one capture point may have seen a frame on two legs of its way."""
        passed_on = (self.source != NOBODY) & (self.leg != FIRST_LEG)
        to_pass_on = (self.destination != NOBODY) & (self.leg == MIDDLE_LEG)
        return bool((passed_on | to_pass_on).any())


@dataclass(frozen=True, slots=True)
class Conversations:
    """Address rows by conversation."""

    of_row: NDArray[np.intp]
    first_row: NDArray[np.intp]
    """A row of each conversation."""

    @classmethod
    def of(cls, ends: Ends) -> "Conversations":
        """Number the conversations of address rows."""
        first_row, of_row = distinct(_identifying(ends))
        return cls(of_row, first_row)


def _vms(rows: AddressPairs, side: Side, interface: Rows, identities: Identities) -> Rows:
    found = identities.vm_of(interface)
    unknown = np.flatnonzero(interface == NOBODY)
    found[unknown] = identities.by_ip(rows[unknown], side)
    return found


def _identifying(ends: Ends) -> Words:
    """Return what tells conversations apart, as words."""
    words = words_of(ends.rows).copy()
    macs, more_macs = words[:, 0].copy(), words[:, 1] & _LOWER_HALF
    without_ip = ends.rows["family"] == 0
    # Of a row's words the last four are its IP addresses, and the first one and a half its MAC addresses.
    words[without_ip, 2], words[without_ip, 3] = macs[without_ip], more_macs[without_ip]
    numbers = words.view(np.int32)
    numbers[:, 0], numbers[:, 1] = ends.source, ends.destination
    words[:, 1] = 2 * ends.rows["family"] + ends.many
    return words
