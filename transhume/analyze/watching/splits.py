"""Splits: groups in several clouds, told once, though the group loses and regains a VM or its name.

A split is known while its VMs are mostly the same and each of these is in the cloud in which it was. One that
heals is remembered for a minute: what splits and heals and splits is told once.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from transhume.analyze.watching import News
from transhume.knowledge.model import (
    CloudName,
    CommunicationMatrix,
    GroupId,
    HostName,
    Snapshot,
    VmName,
)
from transhume.quantities import format_rate

SAME = 0.75
"""The share of the VMs of two splits that must be in both for them to be the same."""
HEALED = timedelta(seconds=60)
"""After so long without it a split is forgotten."""

Clouds = Mapping[CloudName, frozenset[VmName]]


@dataclass(frozen=True, slots=True)
class _Told:
    """A split that was told, and when it was last seen."""

    cloud_of: Mapping[VmName, CloudName]
    seen_at: datetime

    def is_like(self, clouds: Clouds) -> bool:
        """Say whether this is the same split."""
        if set(self.cloud_of.values()) != clouds.keys():
            return False
        now = _cloud_of(clouds)
        both = self.cloud_of.keys() & now.keys()
        if len(both) < SAME * len(self.cloud_of.keys() | now.keys()):
            return False
        return all(self.cloud_of[vm] == now[vm] for vm in both)


@dataclass(frozen=True, slots=True)
class SplitsTold:
    """The splits that were told and not forgotten."""

    splits: tuple[_Told, ...] = ()

    def look(self, now: Snapshot) -> tuple[News, "SplitsTold"]:
        """Return the groups whose split is news, and what is told then."""
        news: News = []
        known = list(self.splits)
        seen: list[_Told] = []
        crossings: _Crossings | None = None
        for group, clouds in _split_groups(now).items():
            told = next((one for one in known if one.is_like(clouds)), None)
            if told is None:
                crossings = crossings or _Crossings(now.matrix)
                news.append((group, _described(group, clouds, crossings.bytes_per_second(clouds))))
                seen.append(_Told(_cloud_of(clouds), now.at))
            else:
                known.remove(told)
                seen.append(_Told(told.cloud_of, now.at))
        lately = [told for told in known if now.at - told.seen_at < HEALED]
        return news, SplitsTold((*seen, *lately))


def _split_groups(snapshot: Snapshot) -> dict[GroupId, Clouds]:
    found: dict[GroupId, Clouds] = {}
    for group in snapshot.groups:
        clouds: dict[CloudName, set[VmName]] = defaultdict(set)
        for vm in group.vms:
            host = snapshot.hosts.get(snapshot.placement.host_of.get(vm, HostName("")))
            if host is not None:
                clouds[host.cloud].add(vm)
        if len(clouds) > 1:
            found[group.id] = {cloud: frozenset(vms) for cloud, vms in clouds.items()}
    return found


def _cloud_of(clouds: Clouds) -> dict[VmName, CloudName]:
    return {vm: cloud for cloud, vms in clouds.items() for vm in vms}


def _described(group: GroupId, clouds: Clouds, crossing: float) -> str:
    shares = ", ".join(f"{len(vms)} in {cloud}" for cloud, vms in sorted(clouds.items()))
    return f"group {group} is split: {shares}; {format_rate(crossing)} cross between them"


class _Crossings:
    """What crosses between the clouds of split groups; asks only for the rows of a group's VMs."""

    def __init__(self, matrix: CommunicationMatrix | None) -> None:
        self._matrix = matrix
        self._row_of = {vm: row for row, vm in enumerate(matrix.vms)} if matrix else {}

    def bytes_per_second(self, clouds: Clouds) -> float:
        """Return the rate, 0 where no traffic is known."""
        if self._matrix is None:
            return 0.0
        number = np.full(len(self._matrix.vms), -1, dtype=np.intp)
        for at, vms in enumerate(clouds.values()):
            number[[self._row_of[vm] for vm in vms if vm in self._row_of]] = at
        rows = np.flatnonzero(number >= 0)
        firsts, lasts = (np.searchsorted(self._matrix.source, rows + step) for step in (0, 1))
        spans = [np.arange(first, last) for first, last in zip(firsts, lasts, strict=True)]
        entries = np.concatenate([np.empty(0, dtype=np.intp), *spans])
        source = number[self._matrix.source[entries]]
        destination = number[self._matrix.destination[entries]]
        crosses = (source != destination) & (destination >= 0)
        return float(self._matrix.bytes_per_second[entries[crosses]].sum())
