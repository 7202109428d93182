"""Where a site sends the frames for an address: the control plane decides it, the data plane carries it out."""

from dataclasses import dataclass

from transhume.knowledge.model import IpAddress, MacAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What one site does with frames for one address of a virtual network."""

    mac: MacAddress
    vtep: IpAddress | None
    """The tunnels' end at the site that has it; None: it is here."""
    detour: bool = False
    """Whether it was here a moment ago: frames that still come for it, from other sites too, go on to `vtep`
    under a second network number; no site forwards what comes under that, so that nothing goes in circles."""
    ips: tuple[IpAddress, ...] = ()
    """What neighbours here are told without asking the VM."""
    device: str = ""
    """Of an address that is here: the port of the bridge that it's behind, where that is known; then its frames
    aren't flooded until it speaks."""
