"""The link layers that we read, and the few numbers that every reader of frames goes by."""

from enum import IntEnum
from typing import Final


class Link(IntEnum):
    """The link types that we can read, by their number in pcap and pcapng."""

    NULL = 0
    ETHERNET = 1
    RAW_OLD = 12
    RAW = 101
    LOOP = 108
    LINUX_SLL = 113
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


COOKED: Final = frozenset({Link.LINUX_SLL, Link.LINUX_SLL2})
"""What `tcpdump -i any` writes: no receiver's MAC address, and a number of the interface or the direction."""

RAW_HARDWARE: Final = (519, 768, 769, 776, 778, 65534)
"""ARPHRD numbers of devices without a link layer: tunnels, `tun`, WireGuard."""

MAC_HARDWARE: Final = (1, 6, 772, 801, 802, 803)
"""ARPHRD numbers whose addresses are MAC addresses: Ethernet, loopback, Wi-Fi."""

LARGEST_RECORD: Final = 16 << 20
"""No frame is this long: a record that says so is damage."""

LAST_NS: Final = 9_223_372_036_000_000_000
"""In the year 2262 nanoseconds since the epoch stop fitting into 64 bits: a later time is damage."""
