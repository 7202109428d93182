"""One site of a virtual network: what its kernel is told, and what it does.

Owns the order of things: devices, rules, entries. Whom to send what is decided elsewhere, and comes as
routes. No frame passes through here; the kernel carries them.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import Any, Self

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay import nftables
from transhume.execute.overlay.plane.batch import KernelTables, refused
from transhume.execute.overlay.plane.devices import Devices
from transhume.execute.overlay.plane.entries import Entry
from transhume.execute.overlay.plane.messages import (
    Request,
    answer_no_more,
    behind_port,
    forward_no_more,
    forward_too,
    neighbours_of,
)
from transhume.execute.overlay.plane.names import EVERYBODY, table, tunnel_devices
from transhume.execute.overlay.plane.programme import (
    Indexes,
    Told,
    differences,
    mending,
    requests,
    routes,
)
from transhume.execute.overlay.plane.rules import (
    ARRIVING,
    FAMILIES,
    arrivals,
    counted,
    rules,
)
from transhume.execute.overlay.refusals import explained
from transhume.execute.overlay.routes import Route
from transhume.execute.overlay.sealing import seals
from transhume.knowledge.model import IpAddress, MacAddress
from transhume.reach import sysctl
from transhume.reach.netns import inside, netlink_in


class SitePlane:
    """What one site does with frames for one virtual network. Blocking; for one thread at a time.

    All methods raise OverlayError where the site can't be programmed. It keeps a socket: `close` it.
    `floods_unknown` is for networks in which not every address has a route: frames for those go to all sites.
    """

    def __init__(
        self, network: OverlayNetwork, site: OverlaySite, *, floods_unknown: bool = False
    ) -> None:
        self._network = network
        self._site = site
        self._floods_unknown = floods_unknown
        self._others = {IpAddress(each.vtep) for each in network.sites if each.name != site.name}
        self._tables: KernelTables | None = None
        self._at: Indexes | None = None
        self._told: Told | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back; what was programmed stays."""
        if self._tables is not None:
            self._tables.close()
        self._tables = None
        self._forget()

    def set_up(self) -> None:
        """Make the devices and rules where they aren't as they should be; routes that hold stay."""
        self._forget()
        with self._explained():
            with netlink_in(self._site.netns) as netlink:
                devices = self._devices(netlink)
                devices.make()
                self._keep_rules(devices.underlay_mtu())
            self._keep_everybody()

    def apply(self, routes: Iterable[Route]) -> None:
        """Carry out routes, all of them in one go, whatever was before.

        Those that the kernel takes hold, even if it refuses another, or another has an address that is none.
        """
        with self._explained():
            at, told = self._indexes(), self._have_told()
            batch: list[Request] = []
            unsaid: list[str] = []
            for route in self._tellable(routes):
                try:
                    batch += list(requests(route, at, told.of(route.mac), self._port(route)))
                except (OSError, ValueError) as error:
                    unsaid.append(f"the entry of {route.mac} can't be written: {error}")
                    continue
                told.note(route)
            self._carry_out(batch)
            if unsaid:
                raise OverlayError(f"site {self._site.name}: {'; '.join(unsaid)}")

    def expect(self, devices: Mapping[MacAddress, str]) -> None:
        """Give what comes by the detour for these addresses to these devices, whatever their routes are.

        Replaces what was expected before; devices that have just gone are left out. Serves any thread.
        """
        with explained(self._site.name):
            with inside(self._site.netns):
                names = {name for _, name in socket.if_nameindex()}
            there = {mac: device for mac, device in devices.items() if device in names}
            nftables.run(self._site.netns, arrivals(self._network, there))

    def actual(self) -> dict[MacAddress, Route]:
        """Return what the kernel does with each address that it has entries of ours for.

        An address that is here has none, and is missing. One whose entries don't fit together has a `detour`
        to nowhere (`vtep` None): it differs from all that can be wanted.
        """
        with self._explained():
            at = self._indexes()
            neighbours = list(self._neighbours(at.bridge))
            self._told = Told(neighbours)
            tunnels = chain(self._entries(at.tunnel), self._entries(at.detour))
            return routes(chain(neighbours, tunnels), at)

    def mending(self, wanted: Iterable[Route]) -> tuple[Route, ...]:
        """Return what to apply so that the kernel does what is wanted, and nothing for other addresses."""
        with self._explained():
            actual = self.actual()
            return mending(self._tellable(wanted), actual)

    def faults(self, wanted: Iterable[Route] = ()) -> tuple[str, ...]:
        """Say what keeps the site from doing what is wanted, a line each; nothing where all is right."""
        self._forget()  # devices may have been made anew under their names
        with self._explained():
            with netlink_in(self._site.netns) as netlink:
                found = list(self._devices(netlink).faults())
            try:
                at = self._indexes()
            except OverlayError:
                return tuple(found)
            known = {entry.to for entry in self._entries(at.tunnel) if entry.mac == EVERYBODY}
            found += [
                f"{self._site.name}: broadcasts don't go to {vtep}"
                for vtep in sorted(self._others - known)
            ]
            found += [
                f"{self._site.name}: there are no {family} rules {table(self._network)}; join the overlay"
                for family in FAMILIES
                if not seals(self._listing(family))
            ]
            told = self._tellable(wanted)
            actual = self.actual() if told else {}  # which takes a while where there are many
            return (*found, *differences(self._site.name, told, actual))

    def counters(self) -> dict[str, int]:
        """Return the packets that were dropped, by `rules.STRANGERS` and `rules.CIRCLING`."""
        with self._explained():
            return counted("".join(map(self._listing, FAMILIES)))

    def tear_down(self) -> None:
        """Remove what was made here, and nothing else; a site that is gone has nothing."""
        with self._explained():
            self._forget_neighbours()
            with netlink_in(self._site.netns) as netlink:
                self._devices(netlink).remove()
            for family in (*FAMILIES, ARRIVING):
                nftables.delete_table(self._site.netns, family, table(self._network))
        self._forget()

    def _devices(self, netlink: Any) -> Devices:
        return Devices(netlink, self._network, self._site, floods_unknown=self._floods_unknown)

    def _keep_rules(self, underlay_mtu: int) -> None:
        script = rules(self._network, self._site, underlay_mtu)
        if seals("".join(map(self._listing, FAMILIES))) != seals(script):
            nftables.run(self._site.netns, script)

    def _keep_everybody(self) -> None:
        tunnel = self._indexes().tunnel
        known = {
            entry.to
            for entry in self._entries(tunnel)
            if entry.mac == EVERYBODY and entry.to is not None
        }
        gone = [forward_no_more(tunnel, EVERYBODY, vtep) for vtep in sorted(known - self._others)]
        new = [forward_too(tunnel, EVERYBODY, vtep) for vtep in sorted(self._others - known)]
        self._carry_out([*new, *gone])

    def _forget_neighbours(self) -> None:
        with inside(self._site.netns):
            try:
                bridge = socket.if_nametoindex(self._site.bridge)
            except OSError:
                return
        ours = [each.to for each in self._neighbours(bridge) if each.to is not None]
        self._carry_out([answer_no_more(bridge, ip) for ip in ours])

    def _listing(self, family: str) -> str:
        return nftables.table_text(self._site.netns, family, table(self._network))

    def _carry_out(self, batch: list[Request]) -> None:
        failures = self._kernel().carry_out(batch)
        if failures:
            self._forget()
            raise refused(self._site.name, failures)

    def _entries(self, device: int) -> Iterator[Entry]:
        return self._kernel().entries(behind_port(device))

    def _neighbours(self, bridge: int) -> Iterator[Entry]:
        for family in (socket.AF_INET, socket.AF_INET6):
            for entry in self._kernel().entries(neighbours_of(family, bridge)):
                if entry.of_ours:
                    yield entry

    def _have_told(self) -> Told:
        if self._told is None:
            self._told = Told(self._neighbours(self._indexes().bridge))
        return self._told

    def _indexes(self) -> Indexes:
        if self._at is None:
            names = (self._site.bridge, *tunnel_devices(self._network))
            with inside(self._site.netns):
                self._at = Indexes(*map(self._index, names))
        return self._at

    def _tellable(self, routes: Iterable[Route]) -> tuple[Route, ...]:
        """Leave out what the kernel can't tell neighbours: then they ask all sites, as they do without us."""
        found = tuple(routes)
        if not any(":" in ip for route in found for ip in route.ips) or self._speaks_ipv6():
            return found
        return tuple(
            replace(route, ips=tuple(ip for ip in route.ips if ":" not in ip)) for route in found
        )

    def _speaks_ipv6(self) -> bool:
        """Say whether the bridge does; whoever looks after the host may change that at any time."""
        with inside(self._site.netns):
            return sysctl.read(f"ipv6/conf/{self._site.bridge}/disable_ipv6") == "0"

    def _port(self, route: Route) -> int | None:
        """Return the number of the port that an address is behind; None where that is unknown, or just gone."""
        if route.vtep is not None or not route.device:
            return None
        with inside(self._site.netns), suppress(OSError):
            return socket.if_nametoindex(route.device)
        return None

    def _index(self, name: str) -> int:
        try:
            return socket.if_nametoindex(name)
        except OSError as error:
            raise OverlayError(
                f"site {self._site.name}: {name} is gone; join the overlay again"
            ) from error

    def _kernel(self) -> KernelTables:
        if self._tables is None:
            self._tables = KernelTables(self._site.netns)
        return self._tables

    def _forget(self) -> None:
        self._at = self._told = None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self._site.name):
            try:
                yield
            except OSError:
                self._forget()
                raise
