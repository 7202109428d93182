"""The account of some sightings: which VM sent how much to which, each frame counted once.

Owns the way from what capture points saw to what matrices hold. Each conversation belongs in one place, a
*heading*: a pair of VMs, a VM's traffic to or from outside or a named network, multicast, or nobody. Sightings
are gone through slice by slice; what counts of each is added up by heading for the series, and by conversation
for the rest. Where only one point captured and no router stands between VMs, there is nothing to decide, and
rows of addresses go to their headings straight away.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.capture_points import Taps
from transhume.analyze.conversations import Conversations, Ends
from transhume.analyze.counting import Circumstances, Sighted, count_once
from transhume.analyze.distinct import words_of
from transhume.analyze.headings import Headings
from transhume.analyze.identity import Identities
from transhume.analyze.lateness import TapSightings, reach_of
from transhume.analyze.networks import NO_NETWORKS, Networks
from transhume.analyze.seen_rows import SeenRows
from transhume.analyze.sightings import Sightings
from transhume.knowledge.model import (
    AddressPairs,
    CommunicationMatrix,
    MacAddress,
    MatrixSeries,
    UnattributedTraffic,
    Vm,
    endpoints,
)

_Batch = list[tuple[int, list[tuple[str, SeenRows]]]]
"""Slices, with what each point saw."""
_ROWS_AT_ONCE = 1 << 20
"""As many sightings are decided upon in one go, or those of one slice."""


Columns = tuple[NDArray[Any], ...]
"""Bytes, payload bytes, frames, variance."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """What counts in a slice, by subject: a row of addresses or a conversation, none twice."""

    place: int
    subject: NDArray[Any]
    columns: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattributed:
    """What belongs to no VM at either end."""

    pairs: tuple[UnattributedTraffic, ...]
    """Pairs of addresses, those that exchanged most first; perhaps not all."""
    bytes: int
    """All bytes, those of the pairs that were left out too."""
    frames: int
    pair_count: int


class Accounts:
    """What sightings come to among some VMs.

    Args:
        sightings: of all capture points together. They must not change any more.
        vms: in the order of the matrices' rows.
        networks: the names that parts of the outside have.
        taps: the MAC address at the end of each capture point that is known to be a tap, by its name.
    """

    def __init__(
        self,
        sightings: Sightings,
        vms: Iterable[Vm],
        *,
        networks: Networks = NO_NETWORKS,
        taps: Mapping[str, MacAddress] | None = None,
    ) -> None:
        self._sightings = sightings
        self._told_taps = taps or {}
        self._identities = Identities(vms, sightings)
        self._ends = Ends.of(sightings.addresses, self._identities)
        names = tuple(vm.name for vm in self._identities.vms)
        self._headings = Headings.of(self._ends, names, networks)

    def matrix(
        self, *, start: datetime | None = None, seconds: float | None = None
    ) -> CommunicationMatrix:
        """Return all traffic as one matrix, which covers the windows unless something else is said."""
        sightings = self._sightings
        return self._headings.matrix(
            self._heading,
            self._totals,
            start=sightings.start if start is None else start,
            seconds=sightings.covered_seconds if seconds is None else seconds,
            dropped_frames=sightings.dropped_frames,
        )

    def series(self) -> MatrixSeries:
        """Return a matrix for each slice of time, silent ones too."""
        silence = _Slice(0, np.zeros(0, dtype=np.intp), (np.zeros(0, dtype=np.int64),) * 4)
        found = {each.place: each for each in self._slices}
        return MatrixSeries(
            vms=self._headings.vms,
            seconds=self._sightings.seconds,
            matrices=tuple(
                self._matrix_of(place, found.get(place, silence))
                for place in self._sightings.slices
            ),
        )

    def unattributed(self, most: int = 100) -> Unattributed:
        """Return what belongs to no VM: the pairs of addresses that exchanged most, and the totals."""
        count, _payload, frames, _variance = self._totals
        subject = np.flatnonzero((self._heading == self._headings.nobodys) & (count + frames > 0))
        rows = self._ends.rows[self._first_row[subject]]
        order = _most_first(count[subject], frames[subject], rows)[:most]
        return Unattributed(
            pairs=tuple(
                UnattributedTraffic(
                    source=source, destination=destination, bytes=sent, frames=number
                )
                for (source, destination), sent, number in zip(
                    endpoints(rows[order]),
                    count[subject][order].tolist(),
                    frames[subject][order].tolist(),
                    strict=True,
                )
            ),
            pair_count=len(subject),
            bytes=int(count[subject].sum()),
            frames=int(frames[subject].sum()),
        )

    def _matrix_of(self, place: int, found: _Slice) -> CommunicationMatrix:
        return self._headings.matrix(
            self._heading[found.subject],
            found.columns,
            start=self._sightings.starts(place),
            seconds=self._sightings.seconds,
            dropped_frames=self._sightings.dropped_in(place),
        )

    # --- subjects: rows of addresses where nothing is to be decided, conversations elsewhere ------

    @cached_property
    def _conversations(self) -> Conversations | None:
        """The conversations, where there may be several sightings of one."""
        if len(self._sightings.points) > 1 or self._ends.may_repeat:
            return Conversations.of(self._ends)
        return None

    @cached_property
    def _first_row(self) -> NDArray[np.intp]:
        """A row of addresses of each subject."""
        if self._conversations is None:
            return np.arange(len(self._ends.rows))
        return self._conversations.first_row

    @cached_property
    def _heading(self) -> NDArray[np.int64]:
        """The heading of each subject."""
        return self._headings.of_row[self._first_row]

    @cached_property
    def _totals(self) -> Columns:
        """What counts of each subject in all the time."""
        totals = tuple(np.zeros(len(self._first_row), dtype=kind) for kind in "qqqd")
        for each in self._slices:
            for total, column in zip(totals, each.columns, strict=True):
                total[each.subject] += column
        return totals

    @cached_property
    def _slices(self) -> tuple[_Slice, ...]:
        """What counts in each slice that isn't silent, in order of time."""
        if self._conversations is None:
            return tuple(
                _Slice(place, seen.pair, seen.columns)
                for place, points in self._sightings.by_slice()
                for _, seen in points
            )
        taps = Taps.of(self._sightings, self._ends, self._identities, self._told_taps)
        return tuple(self._decided(self._conversations, taps))

    def _decided(self, conversations: Conversations, taps: Taps) -> Iterator[_Slice]:
        circumstances = Circumstances(
            source=self._ends.source[conversations.first_row],
            destination=self._ends.destination[conversations.first_row],
            taps=taps.interfaces,
            vm_of_tap=self._identities.vm_of(taps.interfaces),
            told=taps.told,
        )
        at_taps = TapSightings.of(
            (
                (self._sighted(batch, conversations, taps)[0], _numbers(batch))
                for batch in _batches(self._sightings.by_slice())
            ),
            circumstances,
            reach_of(self._sightings.seconds),
        )
        for batch in _batches(self._sightings.by_slice()):
            seen, dropped = self._sighted(batch, conversations, taps)
            late = at_taps.late(seen, _numbers(batch), circumstances, dropped)
            place, subject, columns = count_once(seen.only(~late), circumstances, dropped)
            limits = np.searchsorted(place, np.arange(len(batch) + 1)).tolist()
            for (number, _), (first, after) in zip(batch, pairwise(limits), strict=True):
                counted = tuple(column[first:after] for column in columns)
                yield _Slice(number, subject[first:after], counted)

    def _sighted(
        self, batch: _Batch, conversations: Conversations, taps: Taps
    ) -> tuple[Sighted, NDArray[np.bool_]]:
        """Return all sightings of some slices, and which points dropped frames in which."""
        dropped = np.zeros((len(batch), len(taps.number)), dtype=bool)
        for place, (number, _) in enumerate(batch):
            for point in self._sightings.dropped_at(number):
                dropped[place, taps.number[point]] = True
        parts = [
            (place, taps.number[point], seen)
            for place, (_, points) in enumerate(batch)
            for point, seen in points
        ]
        lengths = [len(seen) for _, _, seen in parts]
        pair = np.concatenate([seen.pair for _, _, seen in parts])
        columns = zip(*(seen.columns for _, _, seen in parts), strict=True)
        return Sighted(
            place=np.repeat([place for place, _, _ in parts], lengths),
            conversation=conversations.of_row[pair],
            point=np.repeat([point for _, point, _ in parts], lengths),
            leg=self._ends.leg[pair].astype(np.int64),
            columns=[np.concatenate(column) for column in columns],
        ), dropped


def _numbers(batch: _Batch) -> NDArray[np.int64]:
    return np.array([number for number, _ in batch], dtype=np.int64)


def _batches(
    slices: Iterable[tuple[int, list[tuple[str, SeenRows]]]],
) -> Iterator[_Batch]:
    """Put slices together to so many sightings that it pays to decide upon them in one go."""
    batch: _Batch = []
    rows = 0
    for place, points in slices:
        there = sum(len(seen) for _, seen in points)
        if batch and rows + there > _ROWS_AT_ONCE:
            yield batch
            batch, rows = [], 0
        batch.append((place, points))
        rows += there
    if batch:
        yield batch


def _most_first(
    count: NDArray[np.int64], frames: NDArray[np.int64], rows: AddressPairs
) -> NDArray[np.intp]:
    """Return an order that depends on nothing but bytes, frames and addresses."""
    words = words_of(rows)
    return np.lexsort((*words.T, -frames, -count))
