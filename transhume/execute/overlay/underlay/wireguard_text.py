"""How WireGuard's things are written: keys, endpoints, and the text that wireguard-go takes and gives.

Owns spelling alone; pure. The text is that of the cross-platform user-space interface
(wireguard.com/xplatform): lines of `key=value`, an empty one at the end, keys in hexadecimal digits.
"""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address

from transhume.execute.overlay.underlay.device import DeviceSetting, PeerReport, PeerSetting

_LONGEST_PORT = len("65535")


def base64_key(raw: bytes) -> str:
    """Return a key as people and records write it."""
    return base64.b64encode(raw).decode()


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Return address and port of an endpoint; brackets are taken off.

    >>> split_endpoint("[2001:db8::1]:51820")
    ('2001:db8::1', 51820)
    """
    address, _, port = endpoint.rpartition(":")
    return address.removeprefix("[").removesuffix("]"), int(port)


def join_endpoint(address: str, port: int) -> str:
    """Return an endpoint of an address and a port.

    >>> join_endpoint("2001:db8::1", 51820)
    '[2001:db8::1]:51820'
    """
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def is_endpoint(written: str) -> bool:
    """Say whether a text is the address and port of one machine, spelt in the one way.

    >>> is_endpoint("192.0.2.1:51820"), is_endpoint("[2001:db8::1]:7"), is_endpoint("127.0.0.1:6379")
    (True, True, False)
    """
    address, _, port = written.rpartition(":")
    try:
        found = ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    spelt = f"[{found}]" if found.version == 6 else str(found)
    elsewhere = (
        found.is_multicast or found.is_loopback or found.is_unspecified or found.is_link_local
    )
    return (
        address == spelt
        and "%" not in address
        and not elsewhere
        and str(found) != "255.255.255.255"
        and port.isascii()
        and port.isdigit()
        and len(port) <= _LONGEST_PORT
        and port == str(int(port))
        and 0 < int(port) < 1 << 16
    )


def setting_text(setting: DeviceSetting) -> str:
    """Return the request that sets a device's key and port."""
    return f"set=1\nprivate_key={setting.private_key.hex()}\nlisten_port={setting.listen_port}\n\n"


def peers_text(peers: Sequence[PeerSetting], gone: Sequence[str] = ()) -> str:
    """Return the request that sets peers and removes others."""
    lines = ["set=1"]
    for key in (*gone, *(peer.public_key for peer in peers if peer.afresh)):
        lines += [f"public_key={_hex(key)}", "remove=true"]
    for peer in peers:
        lines += _peer_lines(peer)
    return "\n".join([*lines, "", ""])


def reports_of(answer: str) -> tuple[PeerReport, ...]:
    """Return the peers in an answer to `get=1`."""
    return tuple(_reports(answer))


def _peer_lines(peer: PeerSetting) -> Iterator[str]:
    yield f"public_key={_hex(peer.public_key)}"
    if peer.endpoint is not None:
        yield f"endpoint={peer.endpoint}"
    yield "replace_allowed_ips=true"
    yield from (f"allowed_ip={network}" for network in peer.allowed_ips)
    # Last: this one sends a packet, which should find the rest in place.
    yield f"persistent_keepalive_interval={peer.keepalive_seconds}"


def _reports(answer: str) -> Iterator[PeerReport]:
    peer: PeerReport | None = None
    for line in answer.splitlines():
        name, _, value = line.partition("=")
        if name == "public_key":
            if peer is not None:
                yield peer
            peer = PeerReport(public_key=base64_key(bytes.fromhex(value)))
        elif peer is not None:
            peer = _with(peer, name, value)
    if peer is not None:
        yield peer


def _with(peer: PeerReport, name: str, value: str) -> PeerReport:
    match name:
        case "endpoint":
            return replace(peer, endpoint=value)
        case "allowed_ip":
            return replace(peer, allowed_ips=(*peer.allowed_ips, value))
        case "persistent_keepalive_interval":
            return replace(peer, keepalive_seconds=int(value))
        case "last_handshake_time_sec":
            return replace(peer, handshake_at=peer.handshake_at + int(value))
        case "last_handshake_time_nsec":
            return replace(peer, handshake_at=peer.handshake_at + int(value) / 1e9)
        case "rx_bytes":
            return replace(peer, received_bytes=int(value))
        case "tx_bytes":
            return replace(peer, sent_bytes=int(value))
        case _:
            return peer


def _hex(key: str) -> str:
    return base64.b64decode(key).hex()
