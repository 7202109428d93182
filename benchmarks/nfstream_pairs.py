"""Bytes by pair of addresses with NFStream, its slow parts off: no dissection, no statistics.

Prints the sum. Runs in a virtual environment of its own (see `benchmarks/peers.py`).
"""

import sys

from nfstream import NFStreamer


def main(path: str) -> None:
    pairs: dict[tuple[str, str], int] = {}
    for flow in NFStreamer(source=path, n_dissections=0, statistical_analysis=False):
        for ends, count in (
            ((flow.src_ip, flow.dst_ip), flow.src2dst_bytes),
            ((flow.dst_ip, flow.src_ip), flow.dst2src_bytes),
        ):
            pairs[ends] = pairs.get(ends, 0) + count
    print(sum(pairs.values()))


if __name__ == "__main__":
    main(sys.argv[1])
