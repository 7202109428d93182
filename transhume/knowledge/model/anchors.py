"""Which connections to the outside go on at the site where they were opened, though their VM has left it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from transhume.knowledge.model.names import IpAddress, SiteName


@dataclass(frozen=True, slots=True, order=True)
class Flow:
    """A connection of a VM with somebody outside, as the VM sees it."""

    protocol: Literal["tcp", "udp"]
    port: int
    """The VM's."""
    peer: IpAddress
    peer_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """All connections of one VM's address that are open at one site."""

    site: SiteName
    ip: IpAddress
    """The VM's."""
    at: datetime
    """When the site last said so."""
    flows: tuple[Flow, ...]
    """Sorted. None: all have ended, or the VM is back."""
