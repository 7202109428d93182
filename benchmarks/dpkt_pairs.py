"""Bytes by pair of addresses with dpkt, as one writes it: a loop over its reader, and a dictionary.

Prints the sum. dpkt's reader hands over what was kept of a frame, not how long it was.
"""

import sys
from pathlib import Path

import dpkt


def main(path: str) -> None:
    pairs: dict[tuple[bytes, bytes], int] = {}
    with Path(path).open("rb") as file:
        for _, kept in dpkt.pcap.UniversalReader(file):
            network = dpkt.ethernet.Ethernet(kept).data
            if isinstance(network, dpkt.ip.IP | dpkt.ip6.IP6):
                key = (network.src, network.dst)
                pairs[key] = pairs.get(key, 0) + len(kept)
    print(sum(pairs.values()))


if __name__ == "__main__":
    main(sys.argv[1])
