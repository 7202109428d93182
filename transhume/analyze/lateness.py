"""Late sightings: frames that a better placed point has counted in a slice close by.

Points don't agree to the slice on when a frame passed: frames cross a border of slices on their way, clocks of
hypervisors differ, and a reader that had to wait for a processor finds what it missed in its next window. Where
each slice is decided upon by itself, such frames count twice: at the source's tap in one slice, at the
destination's in the next. Owns the rule against that: near a slice in which the source's tap saw a
conversation, nobody else's sighting of it counts; and likewise for the destination's tap against points in
between.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.conversations import FIRST_LEG, MIDDLE_LEG
from transhume.analyze.counting import Circumstances, Keys, Sighted, tap_of
from transhume.analyze.identity import NOBODY

LATE_SECONDS = 1.0
"""By so much, and at least by a slice, points may differ on when a frame passed."""


def reach_of(slice_seconds: float) -> int:
    """Return by how many slices points may differ."""
    return max(1, int(np.ceil(LATE_SECONDS / slice_seconds)))


@dataclass(frozen=True, slots=True)
class TapSightings:
    """In which slices the taps at both ends saw each conversation: sorted numbers of slice and conversation."""

    at_source: Keys
    at_destination: Keys
    reach: int

    @classmethod
    def of(
        cls, parts: Iterable[tuple[Sighted, Keys]], of: Circumstances, reach: int
    ) -> "TapSightings":
        """Gather them from all sightings, which come with the numbers of their slices."""
        nothing = np.zeros(0, dtype=np.int64)
        found: tuple[list[Keys], list[Keys]] = ([nothing], [nothing])
        for seen, number in parts:
            subject = number[seen.place] * of.conversations + seen.conversation
            at_source, at_destination = _at_taps(seen, of)
            found[0].append(np.unique(subject[at_source & (seen.leg == FIRST_LEG)]))
            found[1].append(np.unique(subject[at_destination & (seen.leg != MIDDLE_LEG)]))
        source, destination = (np.unique(np.concatenate(keys)) for keys in found)
        return cls(source, destination, reach)

    def late(
        self, seen: Sighted, number: Keys, of: Circumstances, dropped: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Say which sightings a better placed point has counted, in the same slice or close by.

        Args:
            seen: sightings of some slices.
            number: of each of these slices.
            of: what there is to know about points and conversations.
            dropped: whether a point dropped frames, by slice and point; a tap that did is as good as any.
        """
        at_source, at_destination = _at_taps(seen, of)
        slices = number[seen.place]
        source_near = self._near(self.at_source, slices, seen.conversation, of)
        source_near &= ~_lossy(of.source, seen, of, dropped)
        destination_near = self._near(self.at_destination, slices, seen.conversation, of)
        destination_near &= ~_lossy(of.destination, seen, of, dropped)
        worse = source_near & ~at_source
        return worse | (destination_near & ~at_source & ~at_destination)

    def _near(
        self, keys: Keys, slices: Keys, conversation: Keys, of: Circumstances
    ) -> NDArray[np.bool_]:
        found = np.zeros(len(slices), dtype=bool)
        for offset in range(-self.reach, self.reach + 1):
            wanted = (slices + offset) * of.conversations + conversation
            at = np.searchsorted(keys, wanted)
            there = at < len(keys)
            found[there] |= keys[at[there]] == wanted[there]
        return found


def _at_taps(seen: Sighted, of: Circumstances) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which sightings are those of a point that is a tap of the source, and of the destination.

    On whatever leg: what one reader saw of a frame, it saw at one time.
    """
    source = tap_of(of.source[seen.conversation], seen.point, of) != NOBODY
    destination = tap_of(of.destination[seen.conversation], seen.point, of) != NOBODY
    return source, destination


def _lossy(
    vm: NDArray[np.int32], seen: Sighted, of: Circumstances, dropped: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Say of each sighting whether a tap of its conversation's VM dropped frames in its slice."""
    vms = max(int(vm.max(initial=NOBODY)), int(of.vm_of_tap.max(initial=NOBODY))) + 1
    lossy = np.zeros((len(dropped), vms + 1), dtype=bool)
    place, point = np.nonzero(dropped)
    for owners in of.vm_of_tap.T:
        lossy[place, owners[point]] = True
    lossy[:, NOBODY] = False
    return np.asarray(lossy[seen.place, vm[seen.conversation]])
