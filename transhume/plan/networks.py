"""The overlay's networks as the planner speaks of them: which a cloud lacks, and whose they are.

That a VM can't go where one of its networks isn't is no policy's word: nothing but another bridge changes it.
"""

from collections.abc import Iterable, Sequence

from transhume.knowledge.model import ONLY_NETWORK, CloudName, VirtualNetworkName


def network_text(network: VirtualNetworkName) -> str:
    """Return what a network is called; the only one of an overlay has no name."""
    return "the overlay" if network == ONLY_NETWORK else f"network {network}"


def lack_text(cloud: CloudName, networks: Sequence[VirtualNetworkName]) -> str:
    """Return that a cloud lacks networks (one at least) that a VM is on."""
    if ONLY_NETWORK in networks:
        return f"{cloud} is no site of the overlay"
    plural = "" if len(networks) == 1 else "s"
    return f"{cloud} doesn't have its network{plural} {' and '.join(networks)}"


def shared_lack_text(
    cloud: CloudName, network: VirtualNetworkName, names: str, *, many: bool
) -> str:
    """Return that a cloud lacks a network which some of several VMs are on."""
    return (
        f"{cloud} doesn't have {network_text(network)}, which {names} {'are' if many else 'is'} on"
    )


def reach_text(network: VirtualNetworkName, clouds: Iterable[CloudName]) -> str:
    """Return which clouds have a network."""
    where = " and ".join(sorted(clouds))
    what = network_text(network)
    return f"{what} is in {where} only" if where else f"{what} is in no cloud"
