"""Room: what hosts have to give that they hadn't, told once while it comes and goes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from transhume.analyze.watching import News
from transhume.knowledge.model import HostName, Resources, Snapshot, total
from transhume.quantities import format_bytes

SETTLING = timedelta(seconds=60)
"""How long after a move of ours the free capacity of the hosts is not read as theirs to give."""
QUIET = timedelta(seconds=60)
"""So long a host's room must have stayed as it is before as much room as was told is news again."""


@dataclass(frozen=True, slots=True)
class _Told:
    """How much room of a host was told, and when it last came up."""

    room: Resources
    at: datetime


@dataclass(frozen=True, slots=True)
class RoomTold:
    """The room that was told lately."""

    hosts: Mapping[HostName, _Told] = field(default_factory=dict)

    def look(self, before: Snapshot, now: Snapshot) -> tuple[News, "RoomTold"]:
        """Return the clouds whose hosts have gained room for a VM at least, and what is told then."""
        hosts = {host: told for host, told in self.hosts.items() if now.at - told.at < QUIET}
        news: News = []
        for host in sorted(now.capacity.keys() - _hosts_we_emptied(before, now)):
            gained = _gained(host, before, now)
            if gained is None or not _holds_a_vm(gained, now):
                continue
            told = hosts.get(host)
            if told is None or not told.room.covers(gained):
                news.append(_described(host, gained, now))
                hosts[host] = _Told(gained, now.at)
            else:
                hosts[host] = _Told(told.room, now.at)
        return news, RoomTold(hosts)


def _described(host: HostName, gained: Resources, now: Snapshot) -> tuple[str, str]:
    cloud = now.hosts[host].cloud if host in now.hosts else host
    what = f"{gained.vcpus} vCPUs and {format_bytes(gained.memory_bytes)}"
    return cloud, f"host {host} of {cloud} has {what} more to give"


def _gained(host: HostName, before: Snapshot, now: Snapshot) -> Resources | None:
    """Return the room that a host has gained, but for what VMs of ours that left it or came explain."""
    new, old = now.capacity[host], before.capacity.get(host)
    if new.silent:
        return None
    if old is None or old.silent:
        return new.free
    if before.moving or now.moving:
        return None
    return new.free + _used(host, now) - (old.free + _used(host, before))


def _used(host: HostName, snapshot: Snapshot) -> Resources:
    placed = snapshot.placement.host_of
    return total(vm.needs for name, vm in snapshot.vms.items() if placed.get(name) == host)


def _hosts_we_emptied(before: Snapshot, now: Snapshot) -> set[HostName]:
    """Return the hosts that VMs left by a move of ours so lately that their reports may lag behind."""
    return {outcome.source for outcome in now.outcomes if outcome.ended_at >= before.at - SETTLING}


def _holds_a_vm(room: Resources, snapshot: Snapshot) -> bool:
    return any(room.covers(vm.needs) for vm in snapshot.vms.values())
