"""Interfaces at the sites of `overlay_sites` that send and hear single frames, and ears on the WAN."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.system.overlay_sites import SITES, WAN, index, netns_of
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import netlink_in, socket_in

EVERYONE = MacAddress("ff:ff:ff:ff:ff:ff")
TEST_ETHERTYPE = 0x88B5
"""For experiments (IEEE 802): nobody else on the bridge speaks it."""
SETTLE_SECONDS = 0.15
_ALL, _SOL_PACKET, _IGNORE_OUTGOING = 3, 263, 23


def frame(to: MacAddress, source: MacAddress, payload: bytes) -> bytes:
    addresses = bytes.fromhex(to.replace(":", "")) + bytes.fromhex(source.replace(":", ""))
    return addresses + TEST_ETHERTYPE.to_bytes(2, "big") + payload.ljust(46, b"\0")


def ear(netns: str, device: str) -> socket.socket:
    """Open a socket that hears what comes in by a device."""
    opened = socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    opened.bind((device, _ALL))
    opened.setblocking(False)
    return opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Nic:
    """A VM's interface: what goes through it, goes through a port of a bridge."""

    mac: MacAddress
    socket: socket.socket

    def send(self, to: MacAddress, payload: bytes, source: MacAddress | None = None) -> None:
        self.socket.send(frame(to, source or self.mac, payload))

    def heard(self) -> list[bytes]:
        """Return the payloads of the frames for tests that have come; call `settle` before."""
        return [
            found[14:].rstrip(b"\0")
            for found in drained(self.socket)
            if found[12:14] == TEST_ETHERTYPE.to_bytes(2, "big") and not found[14:].startswith(b"?")
        ]


def drained(opened: socket.socket) -> list[bytes]:
    """Return the frames that have come so far."""
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(opened.recv(65536))
    return found


def settle() -> None:
    """Wait for what is still on its way between namespaces of one machine."""
    time.sleep(SETTLE_SECONDS)


@contextmanager
def nic(site: str, mac: MacAddress, name: str = "vm", bridge: str = "br0") -> Iterator[Nic]:
    """Plug an interface into a site's bridge."""
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("add", ifname=f"nic-{name}", kind="veth", peer={"ifname": f"tap-{name}"})
        for end, port in ((f"nic-{name}", {}), (f"tap-{name}", {"master": index(netlink, bridge)})):
            netlink.link("set", index=index(netlink, end), state="up", **port)
    with ear(netns_of(site), f"nic-{name}") as opened:
        made = Nic(mac=mac, socket=opened)
        _wait_until_forwarding(site, name)
        yield made
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("del", index=index(netlink, f"nic-{name}"))


def _wait_until_forwarding(site: str, name: str) -> None:
    """Wait for the port, and for both ends: an interface that has just come up drops what is sent by it."""
    with netlink_in(netns_of(site)) as netlink:
        numbers = {index(netlink, f"{end}-{name}") for end in ("nic", "tap")}
        for _ in range(500):
            if numbers == _up(netlink) & numbers and numbers & _forwarding(netlink):
                return
            time.sleep(0.01)
    raise TimeoutError(f"tap-{name} at {site} doesn't forward")


def _up(netlink) -> set[int]:
    return {
        each["index"]
        for each in netlink.get_links()
        if each.get_attr("IFLA_OPERSTATE") == "UP" and each.get_attr("IFLA_QDISC") != "noop"
    }


def _forwarding(netlink) -> set[int]:
    ports = netlink.brport("dump")
    return {each["index"] for each in ports if each.get(("protinfo", "state")) == 3}


@contextmanager
def wan_ears() -> Iterator[dict[str, socket.socket]]:
    """Listen to what each site sends into the WAN."""
    opened = {site: ear(WAN, f"to-{site}") for site in SITES}
    try:
        yield opened
    finally:
        for each in opened.values():
            each.close()


def tunnelled(ears: dict[str, socket.socket]) -> dict[str, int]:
    """Count the VXLAN packets that each site has sent since it was last asked."""
    return {site: sum(map(_is_tunnelled, drained(each))) for site, each in ears.items()}


def _is_tunnelled(packet: bytes) -> bool:
    """Whether it is VXLAN's, and not a bridge's own report of the multicast groups that it listens to."""
    to_port, inner = packet[36:38], packet[50:]
    is_group_report = inner[12:14] == b"\x08\x00" and inner[23:24] == b"\x02"
    return to_port == (4789).to_bytes(2, "big") and not is_group_report
