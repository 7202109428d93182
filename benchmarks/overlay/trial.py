"""One live move under traffic by one way, and what of the silence that was seen is the network's.

Three measures for each that pings. `added` is the longest silence less the pause that libvirt's events tell of
(STOP to RESUME) and less what answers take longer from where the guest is now: who was its neighbour waits for
one trip over the WAN more, and who has become one for one less, whatever the network. An emulated guest wakes
up slowly: so there is `over`, the same less the silence of the guest's own interface instead (from its last
answer to anybody at the source to its first to anybody at the destination), and `late`, how long after the
hypervisor announced the guest at its new interface the first datagram of each that pings had come there (0:
it waited there). The announcement follows RESUME within a millisecond; libvirt's events come some later.
"""

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.migration.outside import Switches
from benchmarks.overlay.stand import OUTSIDE_NAME, Stand, Watched
from benchmarks.overlay.way import Moving, Way
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.knowledge.model import HostName, IpAddress
from transhume.lab.probes import ANNOUNCED, Passed, Talk
from transhume.reach.libvirt import Connections

BEFORE_SECONDS, AFTER_SECONDS = 1.5, 4.0
MARGIN_SECONDS = 0.05
BYTES_PER_SECOND = 24e6
"""What a migration may take of the WAN, so that it's not the queue before it that is measured."""
SOURCE, DESTINATION, THIRD = "source", "destination", "third"
ROLES = (SOURCE, DESTINATION, THIRD, OUTSIDE_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A move as one of those that ping saw it; seconds."""

    role: str
    """Where from: the source's cloud, the destination's, a third, or outside."""
    silence: float
    added: float
    over: float | None
    late: float | None
    lost: int
    """Of what was sent from a moment before STOP on."""
    unanswered: int
    """Of these, what had come to the guest's new interface: a queue there was full, or the guest too busy."""
    lost_before: int
    duplicates: int
    reordered: int
    trip: float
    """The median round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A live move, and all that was seen of it."""

    way: str
    source: str
    destination: str
    seconds: float
    """Until the hypervisor said that it was over."""
    pause: float
    own_silence: float | None
    """Of the guest's interface."""
    views: tuple[View, ...]
    flooded: int
    """Unicast frames for the guest that reached ports behind which it wasn't."""
    flooded_others: int
    broken: tuple[str, ...]
    """What is wrong with conversations."""


class PauseUnknown(Exception):
    """libvirt didn't tell when the guest stopped or ran."""


@dataclass(slots=True)
class Mover:
    """Moves the guest of a stand, and keeps to where it is."""

    stand: Stand
    connections: Connections
    hosts: LibvirtHosts
    at: str

    async def move(self, name: str, way: Way, destination: str) -> Move:
        """Move the guest and return what was seen.

        Raises:
            PauseUnknown: see there.
        """
        moving = Moving(guest=self.stand.guest, source=self.at, destination=destination)
        switches = Switches()
        async with self.stand.watching():
            await asyncio.sleep(BEFORE_SECONDS)
            seconds = await self._moved(moving, way, switches)
            await asyncio.sleep(AFTER_SECONDS)
            watched = await self.stand.watched()
        vm = self.stand.guest.name
        if vm not in switches.stopped or vm not in switches.running:
            raise PauseUnknown(f"{vm} from {moving.source} to {destination}")
        times = (switches.stopped[vm], switches.running[vm])
        return self._seen(name, moving, seconds, times, watched)

    async def _moved(self, moving: Moving, way: Way, switches: Switches) -> float:
        vm = moving.guest.name
        ends = (self._host(moving.source), self._host(moving.destination))
        options = MigrationOptions(bytes_per_second=BYTES_PER_SECOND)
        await way.before(moving)
        async with switches.watched(self.connections, *ends):
            took = await self.hosts.migrate(vm, *ends, lambda _: None, options)
            await way.after(moving)
        self.at = moving.destination
        await self.hosts.settle(vm, *ends)
        return took.seconds

    def _host(self, cloud: str) -> HostName:
        found = next(each for each in self.stand.lab.spec.clouds if each.name == cloud)
        return HostName(found.host)

    def _seen(
        self,
        name: str,
        moving: Moving,
        seconds: float,
        times: tuple[float, float],
        watched: Watched,
    ) -> Move:
        own = own_silence(watched, moving)
        flooded = {True: 0, False: 0}
        for row in watched.flooded:
            flooded[row.mac == moving.guest.mac] += row.count
        return Move(
            way=name,
            source=moving.source,
            destination=moving.destination,
            seconds=seconds,
            pause=times[1] - times[0],
            own_silence=own,
            views=tuple(self._views(moving, times, own, watched)),
            flooded=flooded[True],
            flooded_others=flooded[False],
            broken=tuple(faults(watched.talks)),
        )

    def _views(
        self, moving: Moving, times: tuple[float, float], own: float | None, watched: Watched
    ) -> Iterator[View]:
        stopped, resumed = times
        delay = self.stand.lab.spec.wan_delay_seconds
        roles = {moving.source: SOURCE, moving.destination: DESTINATION, OUTSIDE_NAME: OUTSIDE_NAME}
        there = watched.passed[moving.destination]
        first = {row.peer: row.first for row in there if not row.from_vm}
        announced = [row.first for row in there if row.peer == ANNOUNCED]
        ready = min([*announced, resumed])
        # On a busy machine libvirt's events come late: the guest's own last word there is surer.
        said = [row.last for row in answers(watched, moving.source)]
        quiet = min(stopped, max(said, default=stopped))
        for place, pings in watched.pings.items():
            role = roles.get(place, THIRD)
            farther = delay * {SOURCE: 1, DESTINATION: -1}.get(role, 0)
            silence = pings.longest_between(quiet, math.inf).seconds
            came = first.get(self.stand.peers[place])
            # What was sent a trip before STOP may have come too late to be answered.
            lost = pings.lost_between(quiet - 2 * delay - MARGIN_SECONDS, math.inf)
            yield View(
                role=role,
                silence=silence,
                added=silence - farther - (resumed - stopped),
                over=None if own is None else silence - farther - own,
                late=None if came is None else max(0.0, came - ready),
                lost=lost,
                unanswered=min(lost, unanswered(there, self.stand.peers[place])),
                lost_before=pings.lost - lost,
                duplicates=pings.duplicates,
                reordered=pings.reordered,
                trip=pings.median_trip,
            )


def own_silence(watched: Watched, moving: Moving) -> float | None:
    """Return how long the guest said nothing to anybody, by its interfaces; None where that wasn't seen."""
    before = [row.last for row in answers(watched, moving.source)]
    after = [row.first for row in answers(watched, moving.destination)]
    return min(after) - max(before) if before and after else None


def answers(watched: Watched, cloud: str) -> list[Passed]:
    """Return what the guest answered at a cloud."""
    return [row for row in watched.passed[cloud] if row.from_vm and row.peer != ANNOUNCED]


def unanswered(there: Sequence[Passed], peer: IpAddress) -> int:
    """Return how many of a peer's datagrams came to an interface and weren't answered."""
    came = sum(row.count for row in there if row.peer == peer and not row.from_vm)
    return max(0, came - sum(row.count for row in there if row.peer == peer and row.from_vm))


def faults(talks: Mapping[str, Talk]) -> Iterator[str]:
    """Say which conversations ended or brought other bytes than were sent."""
    for name, talk in talks.items():
        if talk.failure is not None:
            yield f"{name}: {talk.failure}"
        if talk.wrong:
            yield f"{name}: {talk.wrong} pieces with wrong bytes"
