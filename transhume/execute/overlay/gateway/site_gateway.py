"""The gateway of a virtual network at one site: what the kernel does, and what it's told.

Puts cables, rules and anchors together. Everything here lasts: it works on while no agent runs.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay import nftables
from transhume.execute.overlay.gateway import namespaces
from transhume.execute.overlay.gateway.conntrack import Open, open_flows
from transhume.execute.overlay.gateway.devices import Cables, remove_cables
from transhume.execute.overlay.gateway.layout import marks, namespace, prefix, table
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
from transhume.reach.netns import netlink_in

Anchored = Mapping[tuple[IpAddress, Flow], SiteName]
"""At which site a VM's connection leaves."""


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

    def make(self) -> None:
        """Make what isn't as it should be; anchors that are held stay."""
        with _explained(self.site):
            alone = self._routed_for_nobody()
            namespaces.make(self._netns)
            # The rules first: nothing passes a gateway that has none.
            for netns, rules in self._rules(alone=alone):
                self._keep(netns, rules)
            self._keep(self._netns, anchor_rules(self._network))
            self._held = None
            self._cables.make()

    def faults(self) -> tuple[str, ...]:
        """Say what isn't as it should be, a line each."""
        with _explained(self.site):
            found = list(self._cables.faults())
            if not found:
                rules = self._rules(alone=self._routed_for_nobody())
                found += [
                    f"the gateway's {each.family} rules {each.table} aren't there"
                    for netns, each in rules
                    if seals(self._listing(netns, each)) != (each.seal,)
                ]
            return tuple(f"{self._site.name}: {fault}" for fault in found)

    def open_flows(self) -> Open:
        """Return the connections that leave here, by the VM's address."""
        with _explained(self.site):
            return open_flows(self._netns, prefix(self._settings))

    def neighbours(self) -> dict[IpAddress, MacAddress]:
        """Return whose MAC address belongs to which IP address, as the gateway has learnt it."""
        with _explained(self.site), netlink_in(self._netns) as within:
            return {
                IpAddress(each.get("dst")): MacAddress(each.get("lladdr"))
                for each in within.neigh("dump", family=socket.AF_INET)
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

    def _rules(self, *, alone: bool) -> Iterator[tuple[str | None, Rules]]:
        yield (
            self._netns,
            inside_rules(
                self._network,
                self._settings,
                leaves_here=self._cables.leaves_here,
                segment_bytes=self._cables.longest_segment(),
            ),
        )
        yield self._site.netns, bridge_rules(self._network, self._settings)
        if self._site.uplink:
            rules = host_rules(self._network, self._site.uplink, routes_for_us_alone=alone)
            yield self._site.netns, rules

    def _routed_for_nobody(self) -> bool:
        """Say whether the host forwarded nothing from its uplink before there was a gateway here."""
        if not self._site.uplink:
            return False
        before = nftables.table_text(self._site.netns, "ip", table(self._network.vni))
        return routes_for_us_alone(before) if before else not self._cables.uplink_forwards()

    def _read_held(self) -> Held:
        rules = anchor_rules(self._network)
        self._keep(self._netns, rules)
        return held_in(self._listing(self._netns, rules))

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
    with _explained(site.name):
        remove_cables(network.vni, site)
        for family in ("ip", "bridge"):
            nftables.delete_table(site.netns, family, table(network.vni))


@contextmanager
def _explained(site: str) -> Iterator[None]:
    with explained(site, "refused the gateway something"):
        try:
            yield
        except LookupError as error:
            raise OverlayError(
                f"site {site}: {error} of the gateway went away meanwhile"
            ) from error
