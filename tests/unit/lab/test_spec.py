"""The lab's specification: names, addresses and traffic."""

import pytest
from pydantic import TypeAdapter

from transhume.errors import UsageError
from transhume.lab.spec import (
    HIGH_BYTES_PER_SECOND,
    LOW_BYTES_PER_SECOND,
    DiskSpec,
    LabSpec,
    address_of,
    plan_lab,
)


def test_clusters_are_interleaved_so_that_names_tell_nothing():
    spec = plan_lab(vms=6, clusters=2)

    assert [guest.cluster for guest in spec.guests] == ["blast", "web"] * 3


def test_all_vms_start_in_the_first_cloud_unless_told_otherwise():
    assert {guest.cloud for guest in plan_lab().guests} == {"a"}


def test_vms_start_where_they_are_placed():
    spec = plan_lab(vms=3, place={"vm2": "b"})

    assert [guest.cloud for guest in spec.guests] == ["a", "b", "a"]


def test_round_robin_deals_the_vms_out():
    spec = plan_lab(clouds=2, vms=4, round_robin=True)

    assert [guest.cloud for guest in spec.guests] == ["a", "b", "a", "b"]


def test_a_vm_talks_much_to_its_cluster_and_hardly_to_others():
    spec = plan_lab(vms=6, clusters=2)
    mates = {address_of(3), address_of(5)}

    sends = dict(spec.guests[0].sends)

    assert sum(sends[ip] for ip in mates) == HIGH_BYTES_PER_SECOND
    assert sum(rate for ip, rate in sends.items() if ip not in mates) == LOW_BYTES_PER_SECOND


def test_a_vm_alone_in_its_cluster_only_whispers():
    spec = plan_lab(vms=2, clusters=2)

    assert spec.guests[0].sends == {address_of(2): LOW_BYTES_PER_SECOND}


def test_addresses_are_all_different():
    spec = plan_lab(clouds=5, vms=60)

    assert len({guest.mac for guest in spec.guests}) == 60
    assert len({guest.ip for guest in spec.guests}) == 60
    assert len({cloud.address for cloud in spec.clouds}) == 5


def test_a_specification_survives_being_written_down():
    spec = plan_lab(vms=5, clusters=3, place={"vm1": "c"}, wan_delay_seconds=0.02, disk=DiskSpec())
    written = TypeAdapter(LabSpec)

    assert written.validate_json(written.dump_json(spec)) == spec


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param({"clouds": 0}, "0 clouds", id="no-clouds"),
        pytest.param({"clouds": 27}, "27 clouds", id="more-clouds-than-letters"),
        pytest.param({"vms": 0}, "0 VMs", id="no-vms"),
        pytest.param({"vms": 61}, "61 VMs", id="too-many-vms"),
        pytest.param({"vms": 2, "clusters": 3}, "3 clusters", id="more-clusters-than-vms"),
        pytest.param(
            {"memory_mib": 64}, "64 MiB of memory: a guest has 96 to 512", id="little-memory"
        ),
        pytest.param({"memory_mib": 1024}, "1024 MiB of memory", id="much-memory"),
        pytest.param({"place": {"vm9": "a"}}, "can't place vm9", id="unknown-vm"),
        pytest.param({"place": {"vm1": "z"}}, "in cloud z", id="unknown-cloud"),
    ],
)
def test_what_makes_no_lab_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        plan_lab(**wrong)
