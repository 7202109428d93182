"""Which sighting of a conversation counts, where several capture points saw its frames.

In each slice of time: what entered at the source's tap; else, what left at the destination's tap; else, the
largest sighting of all. A tap that dropped frames decides nothing: the largest sighting of all counts then too.
A VM may send a conversation by several interfaces: the sightings of their taps add up, and of several points
that look like the tap of one interface the largest counts. Looks matter only where no tap is known to be one.

Owns this rule and nothing else (see `docs/decisions/0003-capture-point-roles.md`). What legs and taps are is
told by `conversations` and `capture_points`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.conversations import FIRST_LEG, LEGS, MIDDLE_LEG
from transhume.analyze.distinct import added, run_starts, runs
from transhume.analyze.identity import NOBODY
from transhume.knowledge.model.traffic import Rows

Keys = NDArray[np.int64]
Columns = list[NDArray[Any]]
"""Bytes, payload bytes, frames, variance."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the rule has to know."""

    source: Rows
    """The VM that sends, by conversation."""
    destination: Rows
    taps: Rows
    """The interfaces of which each capture point is the tap, by point."""
    vm_of_tap: Rows
    """Whose they are: of the same shape."""
    told: NDArray[np.bool_]
    """Whether that is known, and not only by the look of it, by point."""

    @property
    def points(self) -> int:
        """How many capture points there are."""
        return len(self.taps)

    @property
    def conversations(self) -> int:
        """How many conversations there are."""
        return len(self.source)


@dataclass(frozen=True, slots=True)
class Sighted:
    """What points saw of conversations, in any order: a row for each sighting, or part of one."""

    place: Keys
    """The number of the slice, from 0."""
    conversation: Keys
    point: Keys
    leg: Keys
    columns: Columns

    def only(self, kept: NDArray[np.bool_]) -> "Sighted":
        """Return some of the sightings."""
        return Sighted(
            self.place[kept],
            self.conversation[kept],
            self.point[kept],
            self.leg[kept],
            [column[kept] for column in self.columns],
        )

    def key(self, of: Circumstances) -> Keys:
        """Return one number for slice, conversation, point and leg, in this order."""
        whole = self.place * of.conversations + self.conversation
        return (whole * of.points + self.point) * LEGS + self.leg


def count_once(
    seen: Sighted, of: Circumstances, dropped: NDArray[np.bool_]
) -> tuple[Keys, Keys, Columns]:
    """Return slice, conversation and what counts of it; each once, in this order.

    Args:
        seen: all sightings of some slices.
        of: what there is to know about points and conversations.
        dropped: whether a point dropped frames, by slice and point.
    """
    key, columns = added(seen.key(of), seen.columns)
    subject = key // (of.points * LEGS)
    contested = _contested(subject)
    counts = [column[~contested] for column in columns]
    subjects = subject[~contested]
    if contested.any():
        decided, chosen = _decide(key[contested], [c[contested] for c in columns], of, dropped)
        subjects = np.concatenate([subjects, decided])
        order = np.argsort(subjects, kind="stable")
        subjects = subjects[order]
        counts = [np.concatenate(both)[order] for both in zip(counts, chosen, strict=True)]
    return subjects // of.conversations, subjects % of.conversations, counts


def _contested(subject: Keys) -> NDArray[np.bool_]:
    """Say which of some sorted subjects are there more than once."""
    starts = run_starts(subject)
    alone = starts.copy()
    alone[:-1] &= starts[1:]
    return ~alone


def _decide(
    key: Keys, columns: Columns, of: Circumstances, dropped: NDArray[np.bool_]
) -> tuple[Keys, Columns]:
    """Return each subject once, and what counts of it."""
    subject, point, leg = key // (of.points * LEGS), key // LEGS % of.points, key % LEGS
    place, conversation = subject // of.conversations, subject % of.conversations
    starts = run_starts(subject)
    group, lossy, told = np.cumsum(starts) - 1, dropped[place, point], of.told[point]
    at_source = tap_of(of.source[conversation], point, of)
    at_source[leg != FIRST_LEG] = NOBODY
    at_destination = tap_of(of.destination[conversation], point, of)
    at_destination[leg == MIDDLE_LEG] = NOBODY
    for tap in (at_source, at_destination):
        tap[~told & _any((tap != NOBODY) & told, group)] = NOBODY
    source_saw = _any(at_source != NOBODY, group)
    source_decides = source_saw & ~_any((at_source != NOBODY) & lossy, group)
    destination_decides = _any(at_destination != NOBODY, group) & ~source_saw
    destination_decides &= ~_any((at_destination != NOBODY) & lossy, group)
    tap = np.where(source_decides, at_source, np.where(destination_decides, at_destination, 0))
    counted = np.flatnonzero(tap != NOBODY)
    best = counted[
        _largest(
            group[counted] * (int(tap.max()) + 1) + tap[counted], [c[counted] for c in columns]
        )
    ]
    return added(subject[best], [column[best] for column in columns])


def tap_of(vm: Rows, point: Keys, of: Circumstances) -> Rows:
    """Return for each sighting of which of the VM's interfaces its point is the tap, -1 for none."""
    found = np.full(len(vm), NOBODY, dtype=np.int32)
    for taps, owners in zip(of.taps.T[::-1], of.vm_of_tap.T[::-1], strict=True):
        if (taps != NOBODY).any():
            here = (owners[point] == vm) & (vm != NOBODY)
            found = np.where(here, taps[point], found)
    return found


def _any(so: NDArray[np.bool_], group: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Say of each row whether it is so of any row of its group."""
    found = np.zeros(int(group[-1]) + 1, dtype=bool)
    found[group[so]] = True
    return found[group]


def _largest(key: Keys, columns: Columns) -> NDArray[np.intp]:
    """Return where the largest sighting of each key is: the most bytes, then payload, then frames."""
    order, starts = runs(key)
    at, group = np.flatnonzero(starts), np.cumsum(starts) - 1
    standing = np.ones(len(key), dtype=bool)
    for column in columns:
        value = column[order]
        most = np.maximum.reduceat(np.where(standing, value, -1), at)
        standing &= value == most[group]
        if np.count_nonzero(standing) == len(at):
            break
    winners = np.flatnonzero(standing)
    return order[winners[run_starts(group[winners])]]
