"""Three sites on a WAN, each a namespace with a bridge: quickly made, and without guests."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from pyroute2 import netns as namespaces

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import inside, netlink_in, socket_in

WAN = "thtest-wan"
SITES = ("a", "b", "c")
MOVER = "thtest-mover"
FIXED = {site: f"thtest-at-{site}" for site in SITES}
MAC = MacAddress("52:54:00:00:00:99")
MOVER_IP, PORT = "10.99.0.99", 5099


def fixed_ip(site: str) -> str:
    return f"10.99.0.{SITES.index(site) + 1}"


def netns_of(site: str) -> str:
    return f"thtest-{site}"


NETWORK = OverlayNetwork(
    vni=99,
    sites=tuple(
        OverlaySite(
            name=site,
            bridge="br0",
            underlay="wan0",
            vtep=f"172.31.99.{number}",
            netns=netns_of(site),
        )
        for number, site in enumerate(SITES, start=1)
    ),
)


def index(netlink, name: str) -> int:
    return netlink.link_lookup(ifname=name)[0]


def make_bridge(netlink, mtu: int, name: str = "br0") -> int:
    netlink.link("add", ifname=name, kind="bridge")
    bridge = index(netlink, name)
    netlink.link("set", index=bridge, mtu=mtu, state="up")
    return bridge


def plug(netns: str, far_netns: str, near: str, far: str, ip: str, **near_link) -> None:
    """Give `netns` an interface whose other end is a port of `far_netns`' bridge."""
    mtu, bridge = near_link.pop("mtu", 1500), near_link.pop("bridge", "br0")
    with netlink_in(netns) as here, netlink_in(far_netns) as there:
        here.link(
            "add",
            ifname=near,
            kind="veth",
            peer={"ifname": far, "net_ns_fd": far_netns},
            **near_link,
        )
        here.addr("add", index=index(here, near), address=ip, prefixlen=24)
        here.link("set", index=index(here, near), mtu=mtu, state="up")
        there.link("set", index=index(there, far), mtu=mtu, master=index(there, bridge), state="up")


def put_mover_at(site: str) -> None:
    """Unplug the mover wherever it is, and plug it in at a site, with the same addresses."""
    with netlink_in(MOVER) as mover:
        for old in mover.link_lookup(ifname="eth0"):
            mover.link("del", index=old)
    plug(MOVER, netns_of(site), "eth0", "mover", MOVER_IP, address=str(MAC))


def links(netns: str) -> set[str]:
    with netlink_in(netns) as netlink:
        return {link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}


def remember_mover(netns: str) -> None:
    """Let an endpoint know the mover's MAC, so that it needn't ask and the mover needn't answer."""
    with netlink_in(netns) as netlink:
        netlink.neigh(
            "replace",
            dst=MOVER_IP,
            lladdr=MAC,
            ifindex=index(netlink, "eth0"),
            state=0x80,
        )


def hears(
    site: str,
    *,
    length: int = 8,
    patience_s: float = 60.0,
    mover: str = MOVER,
    fixed: Mapping[str, str] = FIXED,
) -> bool:
    """Say whether datagrams from the endpoint at `site` reach the mover, which keeps silent.

    Repeated, because a port that has just come up swallows its first frames.
    """
    datagrams = socket.SOCK_DGRAM
    with (
        closing(socket_in(mover, kind=datagrams)) as ear,
        closing(socket_in(fixed[site], kind=datagrams)) as mouth,
    ):
        ear.settimeout(0.05)
        ear.bind(("", PORT))
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            mouth.sendto(b"x" * length, (MOVER_IP, PORT))
            with suppress(TimeoutError):
                return len(ear.recv(65536)) == length
    return False


@contextmanager
def three_sites() -> Iterator[None]:
    """Build them, with an endpoint that stays at each, and one at `a` that can be moved; then remove all."""
    everything = [WAN, MOVER, *map(netns_of, SITES), *FIXED.values()]
    try:
        for netns in everything:
            namespaces.create(netns)
            with inside(netns):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        with netlink_in(WAN) as wan:
            make_bridge(wan, 1600)
        for site, description in zip(SITES, NETWORK.sites, strict=True):
            with netlink_in(netns_of(site)) as netlink:
                make_bridge(netlink, 1500)
            plug(netns_of(site), WAN, "wan0", f"to-{site}", description.vtep, mtu=1600)
            plug(FIXED[site], netns_of(site), "eth0", "fixed", fixed_ip(site))
        put_mover_at("a")
        for netns in FIXED.values():
            remember_mover(netns)
        yield
    finally:
        for netns in everything:
            with suppress(FileNotFoundError):
                namespaces.remove(netns)
