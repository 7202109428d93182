"""What the report's page reckons with when its reader puts VMs elsewhere: names, groups, pairs, prices.

Owns the numbers that are embedded in the page, and how many of them a page can bear. The reckoning itself is in
`report_what_if.html.j2`; it gives what `find_cut` gives for the same placement.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transhume.knowledge.model import CloudName, CommunicationMatrix, Group, VmName

MOST_VMS = 300
MOST_PAIRS = 30_000
UNNAMED_CLOUDS = (CloudName("cloud 1"), CloudName("cloud 2"))
"""What there is to choose from where nobody said where the VMs are."""


def what_if(
    matrix: CommunicationMatrix,
    groups: Sequence[Group],
    order: Sequence[VmName],
    cloud_of: Mapping[VmName, CloudName] | None,
    egress_dollars_per_gb: Mapping[CloudName, float] | None,
) -> dict[str, Any] | None:
    """Return the page's numbers, VMs in the order given.

    None where there are too few VMs or too many, or where it isn't known where each of them was.
    """
    if not 2 <= len(order) <= MOST_VMS or not len(matrix.source):
        return None
    if cloud_of is not None and not cloud_of.keys() >= set(order):
        return None
    place = {vm: number for number, vm in enumerate(order)}
    place_of_row = np.array([place[vm] for vm in matrix.vms])
    clouds = _clouds(order, cloud_of, egress_dollars_per_gb)
    number_of_group = {vm: number for number, each in enumerate(groups) for vm in each.vms}
    order_of_pairs = np.argsort(-matrix.bytes, kind="stable")
    kept, rest = order_of_pairs[:MOST_PAIRS], order_of_pairs[MOST_PAIRS:]
    pairs = zip(
        place_of_row[matrix.source[kept]].tolist(),
        place_of_row[matrix.destination[kept]].tolist(),
        matrix.bytes_per_second[kept].round(3).tolist(),
        strict=True,
    )
    return {
        "vms": list(order),
        "groups": [group.id for group in groups],
        "group": [number_of_group.get(vm, -1) for vm in order],
        "clouds": clouds,
        "at": [clouds.index(cloud_of[vm]) if cloud_of else 0 for vm in order],
        "placed": cloud_of is not None,
        "pairs": [list(pair) for pair in pairs],
        "left_out": float(matrix.bytes_per_second[rest].sum()),
        "egress": dict(egress_dollars_per_gb) if egress_dollars_per_gb else None,
    }


def _clouds(
    order: Sequence[VmName],
    cloud_of: Mapping[VmName, CloudName] | None,
    egress_dollars_per_gb: Mapping[CloudName, float] | None,
) -> list[CloudName]:
    if cloud_of is None:
        return sorted(egress_dollars_per_gb or ()) or list(UNNAMED_CLOUDS)
    return sorted({cloud_of[vm] for vm in order} | set(egress_dollars_per_gb or ()))
