"""Whose taps are at a site: those of VMs on its other machines have the same names."""

import os
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.system.overlay_sites import index, netns_of, three_sites
from transhume.execute.overlay.agent.domains import Domains
from transhume.knowledge.model import MacAddress
from transhume.reach.libvirt import Connections
from transhume.reach.netns import netlink_in, socket_in

libvirt = pytest.importorskip("libvirt")

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

TAP = "tap7"
MAC = MacAddress("52:54:00:00:77:01")
DOMAIN = f"""
<domain type="test"><name>tenant</name><memory>1024</memory><os><type>hvm</type></os><devices>
  <interface type="bridge"><mac address="{MAC}"/><source bridge="br0"/><target dev="{TAP}"/></interface>
</devices></domain>
"""


@pytest.fixture
def bridges() -> Iterator[socket.socket]:
    with three_sites(), closing(socket_in(netns_of("a"), kind=socket.SOCK_DGRAM)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("fe:54:00:00:77:02", ""),
        ("fe:54:00:00:77:01", TAP),
        ("52:54:00:00:99:99", TAP),
        (None, TAP),
    ],
    ids=["anothers", "its own", "not by libvirt", "nowhere"],
)
def test_a_tap_that_has_only_the_name_of_a_vms_isnt_taken_for_it(
    bridges: socket.socket, address: str | None, told: str
) -> None:
    """Else what comes for a VM on another machine of the site goes to a stranger here."""
    if address is not None:
        with netlink_in(netns_of("a")) as netlink:
            far = {"ifname": "far"}
            netlink.link("add", ifname=TAP, kind="veth", address=address, peer=far)
            netlink.link("set", index=index(netlink, TAP), state="up")
    Connections([]).close()  # has libvirt's event loop run
    with closing(libvirt.open("test:///default")) as host:
        domain = host.createXML(DOMAIN)
        try:
            answer = Domains(bridges).read(host)
        finally:
            domain.destroy()
    (port,) = [port for seen in answer.seen if seen.vm == "tenant" for port in seen.ports]
    assert port.interface.device == told
