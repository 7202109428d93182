"""Which pairs of VMs changed most between two matrices, by the bytes per second more or less."""

from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import CommunicationMatrix, VmName


@dataclass(frozen=True, slots=True)
class ChangedPair:
    """A sender and a receiver, with their bytes per second then and now."""

    source: VmName
    destination: VmName
    before: float
    after: float


def changed_pairs(
    before: CommunicationMatrix, after: CommunicationMatrix, count: int
) -> tuple[ChangedPair, ...]:
    """Return at most `count` ordered pairs whose rates differ, those that differ most first.

    VMs are known again by their names; one that is there only once said nothing the other time.
    """
    vms = tuple(dict.fromkeys(before.vms + after.vms))
    row_of = {vm: row for row, vm in enumerate(vms)}
    keys = [_keys(matrix, row_of) for matrix in (before, after)]
    pairs = np.unique(np.concatenate(keys))
    rates = np.zeros((2, len(pairs)))
    for rate, key, matrix in zip(rates, keys, (before, after), strict=True):
        rate[np.searchsorted(pairs, key)] = matrix.bytes_per_second
    change = np.abs(rates[1] - rates[0])
    order = np.argsort(-change, kind="stable")[:count]
    return tuple(
        ChangedPair(
            vms[int(pairs[place]) // len(vms)],
            vms[int(pairs[place]) % len(vms)],
            float(rates[0, place]),
            float(rates[1, place]),
        )
        for place in order
        if change[place] > 0.0
    )


def _keys(
    matrix: CommunicationMatrix, row_of: dict[VmName, int]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    row = np.array([row_of[vm] for vm in matrix.vms], dtype=np.int64)
    return row[matrix.source] * len(row_of) + row[matrix.destination]
