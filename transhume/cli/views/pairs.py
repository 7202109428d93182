"""Which pairs of VMs exchange most, both ways together: for the terminal and for the report."""

from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import CommunicationMatrix, VmName


@dataclass(frozen=True, slots=True)
class BusyPair:
    """Two VMs, and the bytes per second from the one to the other and back."""

    one: VmName
    other: VmName
    there: float
    back: float


def top_pairs(matrix: CommunicationMatrix, count: int) -> tuple[BusyPair, ...]:
    """Return at most `count` pairs, those that exchange most first; what a VM sends itself is no pair."""
    low = np.minimum(matrix.source, matrix.destination).astype(np.int64)
    high = np.maximum(matrix.source, matrix.destination).astype(np.int64)
    between = low != high
    rate = matrix.bytes_per_second[between]
    key, at = np.unique((low * len(matrix.vms) + high)[between], return_inverse=True)
    forth = (matrix.source < matrix.destination)[between]
    there = np.bincount(at[forth], weights=rate[forth], minlength=len(key))
    back = np.bincount(at[~forth], weights=rate[~forth], minlength=len(key))
    order = np.argsort(-(there + back), kind="stable")[:count]
    return tuple(
        BusyPair(
            matrix.vms[int(key[place]) // len(matrix.vms)],
            matrix.vms[int(key[place]) % len(matrix.vms)],
            float(there[place]),
            float(back[place]),
        )
        for place in order
        if there[place] + back[place] > 0.0
    )
