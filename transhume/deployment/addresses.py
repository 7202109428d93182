"""Hosts and ports of gateways, as they are written in files."""

from dataclasses import dataclass

GATEWAY_PORT = 7443


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway listens."""

    host: str
    port: int = GATEWAY_PORT

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read `host:port`, or a host alone.

    >>> parse_address("[2001:db8::1]:8000")
    Address(host='2001:db8::1', port=8000)

    Raises:
        ValueError: the port is no number that a port can have, or an IPv6 address before it has no brackets.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        return Address(text)
    if not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{text} has no port; write one such as 192.0.2.1:{GATEWAY_PORT}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(
            f"where {text} ends and its port begins isn't clear; write one such as [2001:db8::1]:{GATEWAY_PORT}"
        )
    return Address(host.strip("[]"), int(port))


def checked_address(text: str) -> str:
    """Return the text of an address that can be read (ValueError)."""
    parse_address(text)
    return text
