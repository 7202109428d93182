"""Which site of the overlay has which address, and who knows it better.

The rule is that of MAC mobility in EVPN (RFC 7432, section 15): each move of an address draws a higher sequence
number, so the newest wins in whatever order it is heard of.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from transhume.knowledge.model.names import IpAddress, MacAddress, SiteName, VmName


class BindingState(StrEnum):
    """How sure a site is of an address."""

    SETTLED = "settled"
    """Its VM runs there."""
    MOVING = "moving"
    """Its VM has stopped at another site and is about to run there."""
    GONE = "gone"
    """Its VM is nowhere any more; what is kept is its sequence, so that nothing older is believed again."""


_RANKS = {BindingState.MOVING: 0, BindingState.SETTLED: 1, BindingState.GONE: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An interface of a VM, and the site that its frames go to."""

    vni: int
    """The virtual network, by VXLAN's number."""
    mac: MacAddress
    site: SiteName
    sequence: int
    """Of the moves of this address, from 1; a binding that is only confirmed keeps it."""
    state: BindingState = BindingState.SETTLED
    origin: SiteName | None = None
    """Where frames went before, while it is moving."""
    ips: tuple[IpAddress, ...] = ()
    """What neighbours may be told without asking the VM."""

    @property
    def rank(self) -> tuple[int, str, int]:
        """What decides between two bindings of an address: the higher one holds."""
        return self.sequence, self.site, self.certainty

    @property
    def certainty(self) -> int:
        """What decides between two words of one site on one move: a VM that is gone was there before."""
        return _RANKS[self.state]

    def supersedes(self, other: "Binding | None") -> bool:
        """Say whether this one holds, and the other no more."""
        return other is None or self.rank > other.rank


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """A VM that is about to leave a site for another: what its stopping means until then."""

    vm: VmName
    vni: int
    macs: tuple[MacAddress, ...]
    source: SiteName
    destination: SiteName
    until: datetime
    """From then on its stopping means nothing any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """What a site's agent says of itself and of its kernel, every few seconds."""

    site: SiteName
    vni: int
    at: datetime
    holder: str
    """Which process it is."""
    applied: int
    """The register's revision up to which the kernel does what it says."""
    here: int = 0
    """Addresses that are at this site."""
    away: int = 0
    detours: tuple[MacAddress, ...] = ()
    """Addresses whose frames are sent on, because not all sites know yet that they have left."""
    damped: tuple[MacAddress, ...] = ()
    """Addresses that moved too often without anybody having asked for it."""
    faults: tuple[str, ...] = ()
    """What was wrong when the agent last looked, and is being mended."""
    repairs: int = 0
    """What had to be mended since the agent began: entries, devices, rules."""
    paths: tuple[str, ...] = ()
    """How each other site is reached, where what goes there is encrypted."""
    anchored: int = 0
    """Connections to the outside that leave here though their VM is elsewhere, or about to be."""
    terms: str = ""
    """A digest of what its deployment file says that has to be the same at all sites; empty: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEndpoint:
    """Where a site's encrypted packets come from, as another site sees it: behind NAT, the outer address."""

    site: SiteName
    endpoint: str
    """`address:port`, IPv6 in brackets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEndpoint:
    """What a site says of its end of the encrypted underlay, and of whom it sees there."""

    site: SiteName
    public_key: str
    """WireGuard's, in base64."""
    address: IpAddress
    """In the tunnels' network: where its VXLAN ends."""
    port: int
    """That its device listens at, for UDP."""
    generation: str
    """Another one each time its device begins anew, and knows nobody's session any more."""
    at: datetime
    """Said anew every few seconds; of two, the later holds."""
    endpoints: tuple[str, ...] = ()
    """Where anybody reaches it, as its operator says; a site without one is behind NAT."""
    relays: bool = False
    """Whether it passes on the packets of sites that can't reach each other."""
    seen: tuple[SeenEndpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedEndpoint:
    """A `SiteEndpoint` with the proof that its site said it."""

    site: SiteName
    statement: str
    """The record as it was written down when it was signed."""
    certificate: str
    """The site's, in PEM."""
    signature: str
    """In base64."""
