"""The gateway of a virtual network at one site: what the kernel does, and what it's told.

Puts cables, rules and anchors together. Everything here lasts: it works on while no agent runs.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay import nftables
from transhume.execute.overlay.gateway import namespaces
from transhume.execute.overlay.gateway.conntrack import Open, open_flows
from transhume.execute.overlay.gateway.devices import Cables, remove_cables
from transhume.execute.overlay.gateway.families import FAMILIES, written
from transhume.execute.overlay.gateway.forwarding import (
    forwards,
    opened_with,
    setting_of,
    switch_off,
)
from transhume.execute.overlay.gateway.layout import (
    anchors_table,
    families,
    marks,
    namespace,
    prefixes,
    table,
)
from transhume.execute.overlay.gateway.notes import Before, note, noted, noted_by_others
from transhume.execute.overlay.gateway.rules import (
    Held,
    Rules,
    anchor_rules,
    bridge_rules,
    changes,
    held_in,
    host_rules,
    inside_rules,
    routes_for_us_alone,
)
from transhume.execute.overlay.refusals import explained
from transhume.execute.overlay.sealing import seals
from transhume.knowledge.model import Flow, IpAddress, MacAddress, SiteName
from transhume.reach.netns import inside, netlink_in

Anchored = Mapping[tuple[IpAddress, Flow], SiteName]
"""At which site a VM's connection leaves."""
_turns = Lock()
"""Of two gateways that are made or removed at once, each would rely on what the other has noted of the host."""


class SiteGateway:
    """One network's gateway at one site. Blocking; for one thread at a time.

    All methods raise OverlayError where the kernel refuses.
    """

    def __init__(
        self, network: OverlayNetwork, site: OverlaySite, settings: GatewaySettings
    ) -> None:
        self.site = SiteName(site.name)
        self._network, self._site, self._settings = network, site, settings
        self._netns = namespace(network.vni, site.name)
        self._cables = Cables(network, site, settings)
        self._mark_of = dict(marks(network, site.name))
        self._held: Held | None = None
        self._site_of = {mark: name for name, mark in self._mark_of.items()}
        self._families = families(settings)

    def make(self) -> None:
        """Make what isn't as it should be; anchors that are held stay."""
        with _turns, _explained(self.site):
            before = self._before()
            rules = list(self._rules(before))
            _leave(self._network, self._site, keeping=before)
            namespaces.make(self._netns)
            note(self._netns, before)
            # The rules first: nothing passes a gateway that has none.
            for netns, each in rules:
                self._keep(netns, each)
            for family in self._families:
                self._keep(self._netns, anchor_rules(self._network, family))
            self._forget_others()
            self._held = None
            self._cables.make()

    def faults(self) -> tuple[str, ...]:
        """Say what isn't as it should be, a line each."""
        with _explained(self.site):
            found = list(self._cables.faults())
            if not found:
                before = self._before()
                if noted(self._netns) != before:
                    found.append("the gateway hasn't noted what its host forwarded before")
                found += [
                    f"the gateway's {each.family} rules {each.table} aren't there"
                    for netns, each in self._rules(before)
                    if seals(self._listing(netns, each)) != (each.seal,)
                ]
            return tuple(f"{self._site.name}: {fault}" for fault in found)

    def open_flows(self) -> Open:
        """Return the connections that leave here, by the VM's address."""
        with _explained(self.site):
            return open_flows(self._netns, prefixes(self._settings))

    def neighbours(self) -> dict[IpAddress, MacAddress]:
        """Return whose MAC address belongs to which IP address, as the gateway has learnt it."""
        with _explained(self.site), netlink_in(self._netns) as within:
            return {
                written(each.get("dst")): MacAddress(each.get("lladdr"))
                for family in self._families
                for each in within.neigh("dump", family=family.number)
                if each.get("lladdr")
            }

    def held(self) -> Anchored:
        """Return the connections that are sent to other sites' gateways, as the kernel says."""
        with _explained(self.site):
            self._held = self._read_held()
            return {
                key: self._site_of[mark]
                for key, mark in self._held.items()
                if mark in self._site_of
            }

    def hold(self, anchored: Anchored) -> None:
        """Send these connections, and no others, to the gateways of the sites where they were opened.

        What the kernel holds is remembered: `held` looks anew.
        """
        with _explained(self.site):
            wanted = {
                key: self._mark_of[site] for key, site in anchored.items() if site in self._mark_of
            }
            actual = self._read_held() if self._held is None else self._held
            self._held = None
            script = changes(self._network.vni, actual, wanted)
            if script:
                nftables.run(self._netns, script)
            self._held = wanted

    def remove(self) -> None:
        """Remove what was made here, and nothing else."""
        with _explained(self.site):
            remove_gateway(self._network, self._site)

    def _rules(self, before: Before) -> Iterator[tuple[str | None, Rules]]:
        for family in self._families:
            yield (
                self._netns,
                inside_rules(
                    self._network,
                    self._settings,
                    family,
                    leaves_here=self._cables.leaves_here,
                    segment_bytes=self._cables.longest_segment(family),
                ),
            )
        yield self._site.netns, bridge_rules(self._network, self._settings)
        if uplink := self._site.uplink:
            for family in self._families:
                with inside(self._site.netns):
                    did = before[setting_of(family, uplink)]
                    closed = "" if did else opened_with(family, uplink)
                yield self._site.netns, host_rules(self._network, family, uplink, closed=closed)

    def _before(self) -> Before:
        """Say what the host forwarded before it had gateways: all else, it's to forward to these only."""
        if not (uplink := self._site.uplink):
            return {}
        earlier = _known_before(self._network, self._site)
        found: dict[str, bool] = {}
        for family in self._families:
            with inside(self._site.netns):
                setting, does = setting_of(family, uplink), forwards(family, uplink)
            if setting in (known := earlier or {}):
                found[setting] = does and known[setting]
                continue
            # Whoever switched it on had noted that first.
            others = noted_by_others(self._network.vni, self._site.name)
            # It may be on because of us, where there was a gateway that has noted nothing.
            unknown = earlier is None and namespaces.exists(self._netns)
            found[setting] = does and others.get(setting, not unknown)
        return found

    def _forget_others(self) -> None:
        """Remove the rules of a family that the gateway speaks no more."""
        for family in set(FAMILIES) - set(self._families):
            for netns, name in (
                (self._netns, table(self._network.vni)),
                (self._netns, anchors_table(self._network.vni)),
                (self._site.netns, table(self._network.vni)),
            ):
                nftables.delete_table(netns, family.name, name)

    def _read_held(self) -> Held:
        held: Held = {}
        for family in self._families:
            rules = anchor_rules(self._network, family)
            self._keep(self._netns, rules)
            held = {**held, **held_in(self._listing(self._netns, rules))}
        return held

    def _keep(self, netns: str | None, rules: Rules) -> None:
        if seals(self._listing(netns, rules)) != (rules.seal,):
            nftables.run(netns, rules.script)

    def _listing(self, netns: str | None, rules: Rules) -> str:
        return nftables.table_text(netns, rules.family, rules.table)


def remove_gateway(network: OverlayNetwork, site: OverlaySite) -> None:
    """Remove a network's gateway from a site; where there is none, nothing.

    Raises:
        OverlayError: the kernel refuses.
    """
    with _turns, _explained(site.name):
        _leave(network, site)
        remove_cables(network.vni, site)
        for family in ("ip", "ip6", "bridge"):
            nftables.delete_table(site.netns, family, table(network.vni))


def _known_before(network: OverlayNetwork, site: OverlaySite) -> Before | None:
    """Return what a gateway has noted; of one that hasn't, what its rules at the host say."""
    netns = namespace(network.vni, site.name)
    found = noted(netns)
    if found is not None or not site.uplink:
        return found
    said: dict[str, bool] = {}
    for family in FAMILIES:
        listing = nftables.table_text(site.netns, family.name, table(network.vni))
        if listing:
            with inside(site.netns):
                said[setting_of(family, site.uplink)] = not routes_for_us_alone(listing)
    return said or None


def _leave(network: OverlayNetwork, site: OverlaySite, keeping: Iterable[str] = ()) -> None:
    """Have the host forward no more what it forwards only for a gateway, but for settings that it keeps."""
    needed = {*keeping, *noted_by_others(network.vni, site.name)}
    before = _known_before(network, site) or {}
    with inside(site.netns):
        for setting in (name for name, did in before.items() if not did):
            if setting not in needed:
                switch_off(setting)


@contextmanager
def _explained(site: str) -> Iterator[None]:
    with explained(site, "refused the gateway something"):
        try:
            yield
        except LookupError as error:
            raise OverlayError(
                f"site {site}: {error} of the gateway went away meanwhile"
            ) from error
