"""Named networks outside: which name an IP address goes by, the longest prefix deciding."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_network

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import NetworkName

_BITS = {4: 32, 6: 128}


class Networks:
    """Names of IP networks.

    Args:
        named: the networks of each name, as ADDRESS/LENGTH.

    Raises:
        ValueError: a network can't be read, or has two names.
    """

    def __init__(self, named: Mapping[NetworkName, Sequence[str]]) -> None:
        self.names = tuple(named)
        self._by_prefix: dict[int, dict[tuple[int, int], int]] = {4: {}, 6: {}}
        for number, (name, networks) in enumerate(named.items()):
            for text in networks:
                network = ip_network(text)
                length = network.prefixlen
                key = (length, int(network.network_address) >> (_BITS[network.version] - length))
                other = self._by_prefix[network.version].setdefault(key, number)
                if other != number:
                    raise ValueError(f"{text} is in {self.names[other]} and in {name}")

    def find(self, family: int, packed: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Return the number of the name of each address (rows of 16 bytes), -1 where it has none."""
        known = self._by_prefix.get(family, {})
        lengths = sorted({length for length, _ in known}, reverse=True)
        if not lengths:
            return np.full(len(packed), -1, dtype=np.int32)
        size = _BITS[family] // 8
        answers: dict[bytes, int] = {}
        found = np.empty(len(packed), dtype=np.int32)
        for row, address in enumerate(
            np.ascontiguousarray(packed[:, :size]).view(f"V{size}")[:, 0]
        ):
            key = address.tobytes()
            if key not in answers:
                answers[key] = self._look_up(family, int.from_bytes(key, "big"), lengths)
            found[row] = answers[key]
        return found

    def _look_up(self, family: int, address: int, lengths: Sequence[int]) -> int:
        known, bits = self._by_prefix[family], _BITS[family]
        for length in lengths:
            number = known.get((length, address >> (bits - length)))
            if number is not None:
                return number
        return -1


NO_NETWORKS = Networks({})
