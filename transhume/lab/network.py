"""The lab's wires: a namespace for each cloud, the gateway site and the world outside, and the WAN between.

The WAN is one bridge in a namespace of its own; each site's cable to it is shaped in both directions. A WAN
with a delay is a bridge for each site instead, and the process of `delay` between them. The gateway site `edge`
is part of the overlay and holds the guests' default gateway; behind it, `out` is the world that opens
connections to guests without being part of their network.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transhume.errors import LabError
from transhume.lab.delay import start_delay
from transhume.lab.spec import (
    BRIDGE,
    EDGE,
    EDGE_OUTER,
    EDGE_VTEP,
    GATEWAY,
    GATEWAY_MAC,
    OUTSIDE,
    OUTSIDE_ADDRESS,
    PREFIX,
    UNDERLAY,
    UNDERLAY_MTU,
    WAN,
    LabSpec,
)
from transhume.reach.netns import NAMED, inside, netlink_in


def build_network(spec: LabSpec, state: Path) -> None:
    """Make all namespaces and links; what a delay needs is put into `state`.

    Raises:
        LabError: the kernel refused something.
    """
    with _explained():
        for netns in (WAN, OUTSIDE, EDGE, *(cloud.netns for cloud in spec.clouds)):
            make_namespace(netns)
        bridges = _make_wan(spec, state)
        for cloud in spec.clouds:
            _connect(cloud.netns, cloud.name, cloud.address, bridges, spec.wan_bytes_per_second)
        _connect(EDGE, "edge", EDGE_VTEP, bridges, spec.wan_bytes_per_second)
        _open_outside()


def remove_network() -> None:
    """Remove every namespace of a lab, however much of it was built; links go with their namespaces."""
    from pyroute2 import netns as namespaces

    for netns in lab_namespaces():
        namespaces.remove(netns)


def lab_namespaces() -> tuple[str, ...]:
    """Name the network namespaces of this machine that are a lab's."""
    return tuple(sorted(path.name for path in NAMED.glob(f"{PREFIX}*")))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LabError(f"the lab's network can't be built: {error}") from error


def make_namespace(netns: str) -> None:
    """Make a namespace in which nothing speaks of itself."""
    from pyroute2 import netns as namespaces

    namespaces.create(netns)
    with netlink_in(netns) as netlink:
        netlink.link("set", index=1, state="up")
    # Neighbour discovery of idle interfaces would be noise in the captures.
    with inside(netns):
        Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")


def _make_wan(spec: LabSpec, state: Path) -> Mapping[str, str]:
    """Make what joins the sites' cables; return the bridge that each site's is to be put into."""
    sites = [*(cloud.name for cloud in spec.clouds), "edge"]
    if spec.wan_delay_seconds == 0:
        with netlink_in(WAN) as wan:
            _make_bridge(wan, UNDERLAY_MTU)
        return dict.fromkeys(sites, BRIDGE)
    taps = {site: f"delay-{site}" for site in sites}
    start_delay(state, WAN, tuple(taps.values()), seconds=spec.wan_delay_seconds)
    with netlink_in(WAN) as wan:
        for site, tap in taps.items():
            bridge = _make_bridge(wan, UNDERLAY_MTU, f"{BRIDGE}-{site}")
            wan.link("set", index=_index(wan, tap), mtu=UNDERLAY_MTU, master=bridge, state="up")
    return {site: f"{BRIDGE}-{site}" for site in sites}


def _make_bridge(netlink: Any, mtu: int, name: str = BRIDGE) -> int:
    netlink.link("add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0)
    index = _index(netlink, name)
    netlink.link("set", index=index, mtu=mtu, state="up")
    return index


def _connect(
    netns: str, name: str, address: str, bridges: Mapping[str, str], bytes_per_second: float
) -> None:
    """Lay a site's cable to the WAN, and make the bridge for its guests."""
    with netlink_in(netns) as site, netlink_in(WAN) as wan:
        _make_bridge(site, 1500)
        far = f"to-{name}"
        site.link("add", ifname=UNDERLAY, kind="veth", peer={"ifname": far, "net_ns_fd": WAN})
        near, other = _index(site, UNDERLAY), _index(wan, far)
        site.addr("add", index=near, address=address, prefixlen=24)
        wan.link("set", index=other, master=_index(wan, bridges[name]))
        for netlink, index in ((site, near), (wan, other)):
            netlink.link("set", index=index, mtu=UNDERLAY_MTU, state="up")
            _shape(netlink, index, bytes_per_second)


def _shape(netlink: Any, index: int, bytes_per_second: float) -> None:
    # A burst of 10 ms, and never less than the largest segment that a veth hands over in one piece.
    netlink.tc(
        "add",
        "tbf",
        index=index,
        rate=int(bytes_per_second),
        burst=max(65536, int(bytes_per_second / 100)),
        latency="50ms",
    )


def _open_outside() -> None:
    with netlink_in(EDGE) as edge, netlink_in(OUTSIDE) as outside:
        bridge = _index(edge, BRIDGE)
        # A bridge that isn't told goes by the least address of its ports, and by another one after the next.
        edge.link("set", index=bridge, address=GATEWAY_MAC)
        edge.addr("add", index=bridge, address=GATEWAY, prefixlen=24)
        edge.link("add", ifname="out0", kind="veth", peer={"ifname": "out0", "net_ns_fd": OUTSIDE})
        for netlink, address in ((edge, EDGE_OUTER), (outside, OUTSIDE_ADDRESS)):
            index = _index(netlink, "out0")
            netlink.addr("add", index=index, address=address, prefixlen=30)
            netlink.link("set", index=index, state="up")
        outside.route("add", dst="default", gateway=EDGE_OUTER)
    with inside(EDGE):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _index(netlink: Any, name: str) -> int:
    return int(netlink.link_lookup(ifname=name)[0])
