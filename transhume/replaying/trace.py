"""A trace: the facts of a federation, as they were when it begins and as they changed since.

Owns the records. Where VMs are is no fact here: that is what a replay finds out. Facts change at instants; in
between they stand still, and a host that is gone is gone from the instant of its notice's deadline until the
notice is withdrawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from transhume.analyze import find_groups
from transhume.knowledge.model import (
    NOTHING,
    Cloud,
    CloudName,
    CommunicationMatrix,
    Group,
    Host,
    HostName,
    JobName,
    Link,
    Outcome,
    PriceTick,
    Resources,
    RevocationNotice,
    Vm,
    VmName,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Traffic:
    """Who talks to whom, and the groups in it; these are looked for when first asked for."""

    matrix: CommunicationMatrix
    known_groups: tuple[Group, ...] | None = None

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The groups that were found, or are found now."""
        return find_groups(self.matrix) if self.known_groups is None else self.known_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRoom:
    """What a host has for our VMs, from an instant on; nothing: it is gone."""

    host: HostName
    at: datetime
    total: Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPace:
    """How fast a job works when nothing disturbs it, from an instant on."""

    job: JobName
    at: datetime
    share_per_second: float
    """The part of the whole that is done in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTraffic:
    """What VMs say to each other, from an instant on."""

    at: datetime
    traffic: Traffic


Change = PriceTick | RevocationNotice | HostRoom | JobPace | NewTraffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What holds at an instant, whatever a policy does."""

    clouds: Mapping[CloudName, Cloud]
    hosts: Mapping[HostName, Host]
    vms: Mapping[VmName, Vm]
    links: tuple[Link, ...] = ()
    room: Mapping[HostName, Resources] = field(default_factory=dict)
    prices: Mapping[CloudName, PriceTick] = field(default_factory=dict)
    notices: tuple[RevocationNotice, ...] = ()
    """Those in force."""
    paces: Mapping[JobName, float] = field(default_factory=dict)
    """The share of a job that is done in a second, where that is known."""
    traffic: Traffic | None = None

    def after(self, changes: Sequence[Change]) -> "Facts":
        """Return the facts once all of these have changed."""
        found = self
        for change in changes:
            found = found._with(change)
        return found

    def _with(self, change: Change) -> "Facts":
        match change:
            case PriceTick():
                return replace(self, prices={**self.prices, change.cloud: change})
            case HostRoom():
                return replace(self, room={**self.room, change.host: change.total})
            case JobPace():
                return replace(self, paces={**self.paces, change.job: change.share_per_second})
            case NewTraffic():
                return replace(self, traffic=change.traffic)
            case RevocationNotice():
                others = tuple(
                    notice
                    for notice in self.notices
                    if (notice.cloud, notice.host) != (change.cloud, change.host)
                )
                return replace(self, notices=others if change.withdrawn else (*others, change))

    def deadline_of(self, host: HostName) -> datetime | None:
        """Return when a host will be gone, or was; None where nobody said that it will."""
        cloud = self.hosts[host].cloud
        about = (n.deadline for n in self.notices if n.cloud == cloud and n.host in (None, host))
        return min(about, default=None)

    @property
    def host_deadlines(self) -> dict[HostName, datetime]:
        """When each host under a notice will be gone."""
        deadlines = {host: self.deadline_of(host) for host in self.hosts}
        return {host: deadline for host, deadline in deadlines.items() if deadline is not None}

    def is_gone(self, host: HostName, at: datetime) -> bool:
        """Say whether a host runs nothing at an instant."""
        deadline = self.deadline_of(host)
        return (deadline is not None and deadline <= at) or self.room.get(host) == NOTHING

    def room_of(self, host: HostName, at: datetime) -> Resources:
        """Return what a host has for our VMs at an instant; nothing where nobody said."""
        return NOTHING if self.is_gone(host, at) else self.room.get(host, NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What there was, from a start to an end."""

    start: datetime
    end: datetime
    facts: Facts
    """At the start."""
    host_of: Mapping[VmName, HostName]
    """Where the VMs are at the start."""
    changes: tuple[Change, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    """Recorded moves, that the model of migration is calibrated on; the latest first."""
    done: Mapping[JobName, float] = field(default_factory=dict)
    """The share of each job that was done at the start; nothing of those that aren't named."""
    tick_seconds: float = 60.0
    """Decisions are taken at whole ticks since the start."""
    deduplication: float = 0.0
    """The share of a VM's bytes that need not be sent, where no recorded move tells."""
    restart_seconds: float = 300.0
    """How long a lost VM is down beyond its host's return."""

    def batches(self) -> Iterator[tuple[datetime, Facts]]:
        """Yield each instant after the start at which facts change, with what holds from then on."""
        facts, waiting = self.at_start(), list[Change]()
        at = self.start
        for change in sorted(self.changes, key=lambda change: change.at):
            if change.at <= self.start or change.at > self.end:
                continue
            if change.at != at and waiting:
                facts = facts.after(waiting)
                yield at, facts
                waiting = []
            at = change.at
            waiting.append(change)
        if waiting:
            yield at, facts.after(waiting)

    def at_start(self) -> Facts:
        """Return what holds at the start."""
        early = [change for change in self.changes if change.at <= self.start]
        return self.facts.after(sorted(early, key=lambda change: change.at))
