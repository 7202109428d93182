"""The gateway's routes at one site, in one family, by pyroute2.

Owns the policy's part of it (where what begins here leaves) and that of anchors (a table leads to each other
site, for what is marked with its number). What should be there is described once; what isn't wanted goes.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.execute.overlay.gateway.families import IPV4, Family
from transhume.execute.overlay.gateway.layout import (
    TRANSIT,
    UPLINK,
    exit_of,
    families,
    gateway_ip,
    host_addresses,
    places,
    prefix,
)

LINK = 253
"""The scope of what is reached without a router."""
_MAIN, _LOCAL = 254, 255
_UNICAST = 1
_BY_KERNEL = 2
_PRIORITY = 1000


class Route(NamedTuple):
    """A line of the gateway's routing tables."""

    table: int
    to: str
    length: int
    by: str | None
    cable: str


class Routing:
    """One network's gateway at one site, as it routes one family; of one that it doesn't speak, nothing."""

    def __init__(
        self,
        network: OverlayNetwork,
        site: OverlaySite,
        settings: GatewaySettings,
        family: Family,
    ) -> None:
        self._network, self._site, self._settings, self._family = network, site, settings, family
        self._places = places(network)
        self._others = [each for name, each in self._places.items() if name != site.name]
        self._exit = exit_of(network, site.name)
        self._speaks = family in families(settings)

    def lead(self, within: Any, at: Mapping[str, int]) -> None:
        """Make what is missing, by the numbers of the cables, and remove what is too much."""
        actual, wanted = _routes(within, self._family), self._wanted_routes()
        # Those that others lean on come first.
        for route in sorted(wanted - actual, key=lambda each: (each.by is not None, each)):
            self._add(within, route, at)
        kept = {route[:3] for route in wanted}
        for route in actual - wanted:
            if route[:3] not in kept:  # else replaced
                self._remove(within, route)
        known, marks = _marks(within, self._family), self._wanted_marks()
        for mark in marks - known:
            within.rule("add", **self._rule(mark))
        for mark in known - marks:
            within.rule("del", **self._rule(mark))

    def missing_routes(self, within: Any) -> int:
        """Say how many routes there should be that aren't there."""
        return len(self._wanted_routes() - _routes(within, self._family))

    def lacks_marks(self, within: Any) -> bool:
        """Say whether anchored connections would go elsewhere."""
        return bool(self._wanted_marks() - _marks(within, self._family))

    def _add(self, within: Any, route: Route, at: Mapping[str, int]) -> None:
        reached = {"gateway": route.by} if route.by else {"scope": LINK}
        to_vms = not route.by and 0 < route.length < self._family.bits
        within.route(
            "replace",
            family=self._family.number,
            table=route.table,
            dst=f"{route.to}/{route.length}",
            oif=at[route.cable],
            **reached,
            **({"prefsrc": gateway_ip(self._settings, self._family)} if to_vms else {}),
        )

    def _remove(self, within: Any, route: Route) -> None:
        with suppress(*_refusals()):
            within.route(
                "del",
                table=route.table,
                dst=f"{route.to}/{route.length}",
                family=self._family.number,
            )

    def _rule(self, mark: int) -> dict[str, int]:
        number = self._family.number
        return {"family": number, "fwmark": mark, "table": mark, "priority": _PRIORITY}

    def _wanted_routes(self) -> frozenset[Route]:
        if not self._speaks:
            return frozenset()
        bits, anybody = self._family.bits, self._family.anybody
        vms = prefix(self._settings, self._family)
        found = {Route(_MAIN, str(vms.network_address), vms.prefixlen, None, TRANSIT)}
        for place in self._others:
            there = place.ip_in(self._family)
            found.add(Route(_MAIN, there, bits, None, TRANSIT))
            found.add(Route(place.mark, anybody, 0, there, TRANSIT))
        if self._site.uplink:
            _, hosts = host_addresses(self._network.vni, self._family)
            found.add(Route(_MAIN, hosts, bits, None, UPLINK))
            # What comes from sites that have no way of their own, or anchors, leaves here in any case.
            found.add(Route(_MAIN, anybody, 0, hosts, UPLINK))
        if self._exit is not None and self._exit != self._site.name:
            found -= {each for each in found if each[:3] == (_MAIN, anybody, 0)}
            there = self._places[self._exit].ip_in(self._family)
            found.add(Route(_MAIN, anybody, 0, there, TRANSIT))
        return frozenset(found)

    def _wanted_marks(self) -> frozenset[int]:
        return frozenset(place.mark for place in self._others) if self._speaks else frozenset()


def _routes(netlink: Any, family: Family) -> frozenset[Route]:
    """Return the routes of all tables but the local one, and but those that come with addresses."""
    names = {link["index"]: link.get("ifname") for link in netlink.link("dump")}
    found = set()
    for route in netlink.route("dump", family=family.number):
        number = route.get("table") or route["table"]
        if number == _LOCAL or route["type"] != _UNICAST:
            continue
        if family is not IPV4 and route["proto"] == _BY_KERNEL:
            continue
        cable = names.get(route.get("oif"), "")
        to = route.get("dst") or family.anybody
        found.add(Route(number, to, route["dst_len"], route.get("gateway"), cable))
    return frozenset(found)


def _marks(netlink: Any, family: Family) -> frozenset[int]:
    rules = netlink.rule("dump", family=family.number)
    return frozenset(rule.get("fwmark") for rule in rules if rule.get("priority") == _PRIORITY)


def _refusals() -> tuple[type[Exception], ...]:
    from pyroute2.netlink.exceptions import NetlinkError

    return (NetlinkError,)
