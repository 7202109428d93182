"""What the guard keeps from leaving in plain text. A veth stands for WireGuard's device."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pyroute2 import netns as namespaces

from tests.system.nat_sites import link
from tests.system.overlay_frames import EVERYONE, drained, ear, frame, settle, tunnelled
from tests.system.overlay_sites import index
from transhume.execute.overlay.underlay import TunnelNetwork, UnderlaySettings, interface
from transhume.knowledge.model import IpAddress, MacAddress, SiteName
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: network namespaces need root"),
]

SITE, WAN = "thtest-g-site", "thtest-g-wan"
DEVICE, FAR_END, VXLAN = "thtest-g0", "thtest-g1", "thtest-gvx"
OTHER = SiteName("other")
TUNNELS = TunnelNetwork(fixed={OTHER: IpAddress("100.64.0.9")})
SOURCE = MacAddress("52:54:00:00:00:01")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[UnderlaySettings]:
    """A site with a default route, a device in the place of WireGuard's, and VXLAN to another site."""
    found = UnderlaySettings(
        site=SiteName("here"),
        identity=tmp_path / "identity",
        key_file=tmp_path / "key",
        device=DEVICE,
        netns=SITE,
        tunnels=TUNNELS,
    )
    made = []
    try:
        for netns in (SITE, WAN):
            namespaces.create(netns)
            made.append(netns)
            with inside(netns):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        link((WAN, "to-site", "192.0.2.1"), (SITE, "wan0", "192.0.2.2"))
        with netlink_in(SITE) as netlink:
            netlink.link("add", ifname=DEVICE, kind="veth", peer={"ifname": FAR_END})
        interface.set_up(found)
        _have_vxlan(found)
        yield found
    finally:
        for netns in made:
            namespaces.remove(netns)


def test_a_device_is_known_by_the_same_as_long_as_it_is_there(settings: UnderlaySettings) -> None:
    known = [interface.generation(settings, name) for name in ("one", "two")]
    with netlink_in(SITE) as netlink:
        netlink.link("del", index=index(netlink, DEVICE))
        netlink.link("add", ifname=DEVICE, kind="veth", peer={"ifname": FAR_END})
    known += [interface.generation(settings, name) for name in ("three", "four")]
    assert known == ["one", "one", "three", "three"]


def _have_vxlan(settings: UnderlaySettings) -> None:
    with netlink_in(SITE) as netlink:
        netlink.link(
            "add",
            ifname=VXLAN,
            kind="vxlan",
            vxlan_id=66,
            vxlan_port=4789,
            vxlan_local=settings.address,
            vxlan_group=TUNNELS.address(OTHER),
        )
        netlink.link("set", index=index(netlink, VXLAN), state="up")


def leaves_readable() -> bool:
    """Send a frame into VXLAN, and a datagram to the WAN; say whether the WAN hears the frame."""
    with (
        closing(ear(WAN, "to-site")) as heard,
        closing(socket_in(SITE, socket.AF_PACKET, socket.SOCK_RAW, 0)) as mouth,
        closing(socket_in(SITE, kind=socket.SOCK_DGRAM)) as other,
    ):
        mouth.bind((VXLAN, 0))
        mouth.send(frame(EVERYONE, SOURCE, b"secret"))
        settle()
        found = tunnelled({"site": heard})["site"]
        other.sendto(b"heard", ("192.0.2.1", 9))
        settle()
        assert any(b"heard" in packet for packet in drained(heard)), "the WAN hears nothing at all"
    return found > 0


def take_device_down() -> None:
    with netlink_in(SITE) as netlink:
        netlink.link("set", index=index(netlink, DEVICE), state="down")


def take_routes() -> None:
    with netlink_in(SITE) as netlink:
        for network in (TUNNELS.tunnels, TUNNELS.relays):
            netlink.route("del", dst=str(network), oif=index(netlink, DEVICE))


def take_device_away() -> None:
    """Leave the address, as somebody may have given it to another device too."""
    with netlink_in(SITE) as netlink:
        address = TUNNELS.address(SiteName("here"))
        netlink.addr("add", index=index(netlink, "lo"), address=address, prefixlen=32)
        netlink.link("del", index=index(netlink, DEVICE))


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(take_device_down, id="device-down"),
        pytest.param(take_routes, id="no-routes"),
        pytest.param(take_device_away, id="no-device"),
    ],
)
def test_frames_never_leave_by_the_default_route(
    settings: UnderlaySettings, harm: Callable[[], None]
) -> None:
    assert not leaves_readable()

    harm()

    assert not leaves_readable()
