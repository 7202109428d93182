"""What a virtual network's things at a site are called."""

from transhume.deployment.model import OverlayNetwork
from transhume.knowledge.model import MacAddress

EVERYBODY = MacAddress("00:00:00:00:00:00")
"""The VXLAN entry for frames without one of their own: broadcasts and multicasts."""


def detour_device(network: OverlayNetwork) -> str:
    """Return the name of the device for frames that go on to where a VM has gone."""
    return f"thvr{network.vni}"


def tunnel_devices(network: OverlayNetwork) -> tuple[str, str]:
    """Return the names of both devices: no VM is behind these ports."""
    return network.device, detour_device(network)


def table(network: OverlayNetwork) -> str:
    """Return the name of the tables of packet rules."""
    return f"transhume_{network.vni}"
