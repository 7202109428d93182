"""What crosses clouds, and who bills it."""

import pytest

from tests.unit.analyze.traffic import START, matrix_of
from transhume.analyze import find_cut
from transhume.knowledge.model import CloudName, PriceTick, VmName

CAMPUS, RENTED = CloudName("campus"), CloudName("rented")
PLACES = {VmName("vm0"): CAMPUS, VmName("vm1"): RENTED, VmName("vm2"): RENTED}
RENTED_PRICE = PriceTick(
    cloud=RENTED, at=START, dollars_per_vcpu_hour=0.04, egress_dollars_per_gb=0.09
)


def test_the_sending_cloud_bills_what_leaves_it() -> None:
    """1 MB/s is 3.6 GB an hour; at $0.09 for a GB that is $0.324."""
    matrix = matrix_of([[0, 8e6, 0], [2e6, 0, 9e9], [0, 0, 0]], seconds=2.0)

    found = find_cut(matrix, PLACES.__getitem__, {RENTED: RENTED_PRICE})

    assert found.bytes_per_second == {(CAMPUS, RENTED): 4e6, (RENTED, CAMPUS): 1e6}
    assert found.total_bytes_per_second == 5e6
    assert found.dollars_per_hour == pytest.approx(0.324)


def test_a_placement_that_splits_nothing_cuts_nothing() -> None:
    matrix = matrix_of([[0, 8e6, 0], [0, 0, 0], [0, 0, 0]])

    found = find_cut(matrix, lambda _: CAMPUS, {RENTED: RENTED_PRICE})

    assert found.bytes_per_second == {}
    assert found.dollars_per_hour == 0.0
