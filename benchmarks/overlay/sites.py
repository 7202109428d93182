"""Sites of an overlay in network namespaces, without guests: a bridge each, and a wire to the others."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from transhume.deployment.model import OverlayNetwork, OverlaySite

VNI = 77
PREFIX = "thbench-o"
WAN = f"{PREFIX}-wan"
_QUIET = """
for each in all default; do echo 1 >/proc/sys/net/ipv6/conf/$each/disable_ipv6; done
for each in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $each ] || echo 0 >$each; done
"""


def ip(netns: str, *lines: str) -> None:
    """Carry out commands of `ip` in a namespace, all in one process."""
    subprocess.run(
        ["ip", "-n", netns, "-batch", "-"],
        input="\n".join(lines),
        check=True,
        capture_output=True,
        text=True,
    )


def network(sites: int) -> OverlayNetwork:
    """Describe a network over so many sites."""
    return OverlayNetwork(
        vni=VNI,
        sites=tuple(
            OverlaySite(
                name=f"s{number}",
                bridge="br0",
                underlay="wan0",
                vtep=f"10.{number // 250}.0.{number % 250 + 1}",
                netns=f"{PREFIX}-{number}",
            )
            for number in range(sites)
        ),
    )


@contextmanager
def namespaces(names: Sequence[str]) -> Iterator[None]:
    """Make namespaces in which nothing speaks by itself, and remove them in the end.

    Nobody's iptables look at what their bridges forward, as on a host where br_netfilter isn't loaded.
    """
    try:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
            subprocess.run(["ip", "netns", "exec", name, "sh", "-c", _QUIET], check=True)
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextmanager
def lone_sites(over: OverlayNetwork) -> Iterator[None]:
    """Make sites that can be programmed, but have no wire: a second bridge stands for the underlay."""
    with namespaces([str(site.netns) for site in over.sites]):
        for site in over.sites:
            ip(
                str(site.netns),
                "link add br0 type bridge",
                "link set br0 up",
                "link add wan0 type bridge",
                f"address add {site.vtep}/8 dev wan0",
                "link set wan0 up",
            )
        yield
