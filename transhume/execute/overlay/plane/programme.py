"""From routes to requests, and from the kernel's entries back to routes; and how the two differ.

Pure. Two tables decide where a frame goes: the bridge's (which port an address is behind) and the VXLAN
device's own (which site it is at). A remote address needs an entry in both, and one that comes home must
leave both, or a VM that says nothing stays unreachable. What the tunnel does comes before what leads into it,
and goes after it: a frame that finds no entry of its own in a VXLAN device would go to every site.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from transhume.execute.overlay.plane.entries import Entry
from transhume.execute.overlay.plane.messages import (
    Request,
    answer_for,
    answer_no_more,
    forward,
    forward_no_more,
    put_behind,
    take_from_behind,
)
from transhume.execute.overlay.plane.names import EVERYBODY
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import IpAddress, MacAddress


class Indexes(NamedTuple):
    """The kernel's numbers of a site's devices."""

    bridge: int
    tunnel: int
    detour: int


def requests(
    route: Route, at: Indexes, known_ips: Iterable[IpAddress], port: int | None = None
) -> Iterator[Request]:
    """Yield what carries out a route, in an order in which no frame goes astray meanwhile.

    `known_ips` are the IP addresses that neighbours are told of this address now, `port` the local one that it
    is behind, where that is known.
    """
    mac, vtep = route.mac, route.vtep
    answered = () if vtep is None else route.ips
    if vtep is None:
        if port is not None:
            yield put_behind(port, mac)
        yield take_from_behind(at.tunnel, mac)
        yield take_from_behind(at.detour, mac)
        yield forward_no_more(at.tunnel, mac)
        yield forward_no_more(at.detour, mac)
    elif route.detour:
        yield forward(at.detour, mac, vtep)
        yield put_behind(at.detour, mac)
        yield forward(at.tunnel, mac, vtep)
    else:
        yield forward(at.tunnel, mac, vtep)
        yield put_behind(at.tunnel, mac)
        yield forward_no_more(at.detour, mac)
    for ip in answered:
        yield answer_for(at.bridge, ip, mac)
    for ip in set(known_ips) - set(answered):
        yield answer_no_more(at.bridge, ip)


class Told:
    """Which IP addresses neighbours are told of which MAC address; each of one only."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._ips: dict[MacAddress, set[IpAddress]] = defaultdict(set)
        self._owners: dict[IpAddress, MacAddress] = {}
        for entry in entries:
            if entry.of_ours and entry.mac is not None and entry.to is not None:
                self._give(entry.to, entry.mac)

    def of(self, mac: MacAddress) -> frozenset[IpAddress]:
        """Return what is told of an address."""
        return frozenset(self._ips.get(mac, ()))

    def note(self, route: Route) -> None:
        """Take in that a route is carried out."""
        for ip in self._ips.pop(route.mac, ()):
            del self._owners[ip]
        for ip in route.ips if route.vtep is not None else ():
            self._give(ip, route.mac)

    def _give(self, ip: IpAddress, mac: MacAddress) -> None:
        before = self._owners.get(ip)
        if before is not None:
            self._ips[before].discard(ip)
        self._owners[ip] = mac
        self._ips[mac].add(ip)


@dataclass(slots=True)
class _Found:
    tunnel: IpAddress | None = None
    detour: IpAddress | None = None
    behind: int | None = None
    ips: tuple[IpAddress, ...] = ()


def routes(entries: Iterable[Entry], at: Indexes) -> dict[MacAddress, Route]:
    """Return what a site does with the addresses for which it has any entry of ours.

    An address whose entries don't fit together has a `detour` to nowhere, which nobody can want.
    """
    found: dict[MacAddress, _Found] = defaultdict(_Found)
    for entry in entries:
        if entry.mac is None or entry.mac == EVERYBODY:
            continue
        if entry.of_ours and entry.to is not None:
            found[entry.mac].ips += (entry.to,)
        elif entry.of_tunnel and entry.device == at.tunnel:
            found[entry.mac].tunnel = entry.to
        elif entry.of_tunnel and entry.device == at.detour:
            found[entry.mac].detour = entry.to
        elif entry.of_bridge and entry.device in (at.tunnel, at.detour):
            found[entry.mac].behind = entry.device
    return {mac: _route(mac, each, at) for mac, each in found.items()}


def _route(mac: MacAddress, found: _Found, at: Indexes) -> Route:
    ips = tuple(sorted(found.ips))
    if found.behind == at.tunnel and found.tunnel and not found.detour:
        return Route(mac=mac, vtep=found.tunnel, ips=ips)
    if found.behind == at.detour and found.tunnel and found.tunnel == found.detour:
        return Route(mac=mac, vtep=found.tunnel, detour=True, ips=ips)
    return Route(mac=mac, vtep=None, detour=True, ips=ips)


def mending(wanted: Iterable[Route], actual: Mapping[MacAddress, Route]) -> tuple[Route, ...]:
    """Return what to carry out so that a site does what is wanted, and nothing for any other address."""
    by_mac = {route.mac: route for route in wanted}
    differing = (route for route in by_mac.values() if not carried_out(route, actual))
    strays = (Route(mac=mac, vtep=None) for mac in actual if mac not in by_mac)
    return (*differing, *strays)


def carried_out(route: Route, actual: Mapping[MacAddress, Route]) -> bool:
    """Say whether a site does what a route says."""
    found = actual.get(route.mac)
    if route.vtep is None or found is None:
        return route.vtep is None and found is None
    same = (route.vtep, route.detour) == (found.vtep, found.detour)
    return same and (route.ips == found.ips or set(route.ips) == set(found.ips))


def differences(
    site: str, wanted: Iterable[Route], actual: Mapping[MacAddress, Route]
) -> Iterator[str]:
    """Say in words what a site does otherwise than the routes say."""
    for route in wanted:
        if carried_out(route, actual):
            continue
        found, here = actual.get(route.mac), Route(mac=route.mac, vtep=None)
        does, should = _words(found or here), _words(here if route.vtep is None else route)
        yield f"{site}: {route.mac} {does}; it should be: {should}"


def _words(route: Route) -> str:
    if route.vtep is None:
        return "has entries that don't fit together" if route.detour or route.ips else "stays here"
    known = f", known as {', '.join(route.ips)}" if route.ips else ""
    return f"goes {'on ' if route.detour else ''}to {route.vtep}{known}"
