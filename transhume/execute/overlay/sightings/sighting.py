"""What is seen of VMs at a site's ports: an address, where, and by what sign."""

from dataclasses import dataclass
from enum import StrEnum

from transhume.knowledge.model import IpAddress, MacAddress


class How(StrEnum):
    """What gave a VM away."""

    RARP = "rarp"
    """The hypervisor's announcement, as a VM starts to run at the destination."""
    ARP = "arp"
    """The VM's own question, answer or announcement, which also says its IP address."""
    FRAME = "frame"
    """The bridge has learnt from any frame that the address is behind another port now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A VM's interface was heard at a port of the site's bridge."""

    mac: MacAddress
    port: str
    ip: IpAddress | None
    how: How


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """The kernel had more to say than was heard: what is where must be looked up (`Sightings.present`)."""
