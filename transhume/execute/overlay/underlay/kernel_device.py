"""The kernel's WireGuard, over its generic netlink.

pyroute2 speaks it; owns how our records look there. A device of the kernel's outlives us, and so do its
sessions: an agent that starts again finds them.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transhume.execute.overlay.underlay.device import (
    KIND,
    DeviceSetting,
    PeerReport,
    PeerSetting,
)
from transhume.execute.overlay.underlay.wireguard_text import (
    base64_key,
    join_endpoint,
    split_endpoint,
)
from transhume.reach.netns import inside, netlink_in


class KernelDevice:
    """A WireGuard device of the kernel's."""

    kind = "kernel"

    def __init__(self, name: str, netns: str | None) -> None:
        self._name = name
        self._netns = netns

    @staticmethod
    def supported(name: str, netns: str | None) -> bool:
        """Say whether the kernel has WireGuard, by making a device, or finding it."""
        try:
            KernelDevice(name, netns).ensure()
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                return False
            raise
        return True

    def ensure(self) -> bool:
        """Have the device; True where it had to be made."""
        with netlink_in(self._netns) as netlink:
            if netlink.link_lookup(ifname=self._name):
                return False
            netlink.link("add", ifname=self._name, kind=KIND)
            return True

    def configure(self, setting: DeviceSetting) -> None:
        """Set the private key and the port."""
        with self._wireguard() as wireguard:
            wireguard.set(
                self._name,
                private_key=base64_key(setting.private_key),
                listen_port=setting.listen_port,
            )

    def change(self, peers: Sequence[PeerSetting], gone: Sequence[str] = ()) -> None:
        """Set peers, and remove those that are gone."""
        with self._wireguard() as wireguard:
            for key in (*gone, *(peer.public_key for peer in peers if peer.afresh)):
                wireguard.set(self._name, peer={"public_key": key, "remove": True})
            for peer in peers:
                wireguard.set(self._name, peer=peer_attributes(peer))

    def peers(self) -> tuple[PeerReport, ...]:
        """Return what it has."""
        with self._wireguard() as wireguard:
            return tuple(reports_of(wireguard.info(self._name)))

    def remove(self) -> None:
        """Take it away."""
        with netlink_in(self._netns) as netlink:
            for index in netlink.link_lookup(ifname=self._name):
                netlink.link("del", index=index)

    @contextmanager
    def _wireguard(self) -> Iterator[Any]:
        from pyroute2 import WireGuard
        from pyroute2.netlink.exceptions import NetlinkError

        with inside(self._netns):
            wireguard = WireGuard()
        with wireguard:
            try:
                yield wireguard
            except NetlinkError as error:
                raise OSError(error.code, f"WireGuard of the kernel, {self._name}") from error


def peer_attributes(peer: PeerSetting) -> dict[str, Any]:
    """Return a peer as pyroute2 takes it."""
    attributes: dict[str, Any] = {
        "public_key": peer.public_key,
        "replace_allowed_ips": True,
        "allowed_ips": list(peer.allowed_ips),
        "persistent_keepalive": peer.keepalive_seconds,
    }
    if peer.endpoint is not None:
        address, port = split_endpoint(peer.endpoint)
        attributes |= {"endpoint_addr": address, "endpoint_port": port}
    return attributes


def reports_of(messages: Any) -> Iterator[PeerReport]:
    """Yield the peers in what the kernel answered."""
    for message in messages:
        for peer in message.get_attr("WGDEVICE_A_PEERS") or ():
            endpoint = peer.get_attr("WGPEER_A_ENDPOINT")
            handshake = peer.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME") or {}
            yield PeerReport(
                public_key=bytes(peer.get_attr("WGPEER_A_PUBLIC_KEY")).decode(),
                allowed_ips=tuple(
                    each["addr"] for each in peer.get_attr("WGPEER_A_ALLOWEDIPS") or ()
                ),
                endpoint=join_endpoint(endpoint["addr"], endpoint["port"]) if endpoint else None,
                keepalive_seconds=peer.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0,
                handshake_at=handshake.get("tv_sec", 0) + handshake.get("tv_nsec", 0) / 1e9,
                received_bytes=peer.get_attr("WGPEER_A_RX_BYTES") or 0,
                sent_bytes=peer.get_attr("WGPEER_A_TX_BYTES") or 0,
            )
