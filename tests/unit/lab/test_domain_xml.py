"""A guest as libvirt is told of it."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from transhume.errors import UsageError
from transhume.knowledge.model import CloudName, ClusterName
from transhume.lab.domain_xml import domain_xml
from transhume.lab.spec import DiskSpec, GuestSpec, address_of
from transhume.reach.domains import VM_NAMESPACE

GUEST = GuestSpec(
    number=3,
    cluster=ClusterName("blast"),
    cloud=CloudName("a"),
    tags=("gpu", "prod"),
    sends={address_of(5): 2000, address_of(1): 100},
)


def test_cluster_tags_and_addresses_travel_in_the_metadata():
    found = ET.fromstring(domain_xml(GUEST)).find(f"metadata/{{{VM_NAMESPACE}}}vm")

    assert found is not None
    assert found.attrib == {"cluster": "blast", "tags": "gpu,prod", "ips": "10.66.0.13"}


def test_guests_are_emulated_on_any_machine():
    domain = ET.fromstring(domain_xml(GUEST))

    assert domain.get("type") == "qemu"
    assert domain.findtext("cpu/model") == "qemu64"


def test_a_guest_speaks_ipv6_only_where_it_is_to():
    both = replace(GUEST, speaks_ipv6=True)
    found = ET.fromstring(domain_xml(both)).find(f"metadata/{{{VM_NAMESPACE}}}vm")

    assert found is not None
    assert found.attrib["ips"] == "10.66.0.13,fd66::13"
    assert {"ipv6.disable=0", "TH_ADDRESS6=fd66::13/64"} <= set(arguments(both))
    assert "ipv6.disable=1" in arguments(GUEST)


def test_the_kernel_tells_init_what_the_guest_is_to_do():
    arguments = (ET.fromstring(domain_xml(GUEST)).findtext("os/cmdline") or "").split()

    assert "TH_ADDRESS=10.66.0.13/24" in arguments
    assert "TH_SENDS=10.66.0.15:2000,10.66.0.11:100" in arguments


def test_a_guest_that_panics_is_seen_to_be_gone():
    domain = ET.fromstring(domain_xml(GUEST))

    assert (domain.findtext("on_reboot"), domain.findtext("on_crash")) == ("destroy", "destroy")


def arguments(guest: GuestSpec) -> list[str]:
    return (ET.fromstring(domain_xml(guest)).findtext("os/cmdline") or "").split()


def test_memory_is_shared_so_that_it_can_be_read_beside_the_guest():
    """Pre-warming reads QEMU's memfd."""
    backing = ET.fromstring(domain_xml(GUEST)).find("memoryBacking")

    assert backing is not None
    assert [dict(part.attrib) for part in backing] == [{"type": "memfd"}, {"mode": "shared"}]
    assert (
        ET.fromstring(domain_xml(replace(GUEST, shared_memory=False))).find("memoryBacking") is None
    )


def test_a_guest_that_has_nothing_to_keep_is_told_to_keep_nothing():
    quiet = replace(GUEST, sends={}, working_set_mib=0)

    assert {"TH_SENDS=", "TH_MEMORY=", "TH_UNIQUE=", "TH_DISK="} <= set(arguments(quiet))
    assert not [word for word in arguments(quiet) if word.startswith("TH_WRITE")]


def test_what_only_one_guest_has_is_made_of_its_number():
    busy = replace(
        GUEST, unique_mib=24, writer_bytes_per_second=8_000_000, disk=DiskSpec(own_mib=4)
    )

    assert {"TH_UNIQUE=24:3", "TH_WRITE=32:8000000:3", "TH_DISK=rw:4:100000:3"} <= set(
        arguments(busy)
    )


def test_a_disk_that_is_the_image_itself_is_read_only():
    """libvirt migrates a guest with such a disk without asking for its storage to be moved."""
    disk = ET.fromstring(domain_xml(replace(GUEST, disk=DiskSpec(writable=False)))).find(
        "devices/disk"
    )

    assert disk is not None
    assert disk.find("readonly") is not None
    assert [part.get("file") for part in disk.iter("source")] == ["/opt/disks/base.img"]


def test_a_disk_that_is_written_is_the_guests_own():
    disk = ET.fromstring(domain_xml(replace(GUEST, disk=DiskSpec()))).find("devices/disk")

    assert disk is not None
    assert disk.find("readonly") is None
    assert [part.get("file") for part in disk.iter("source")] == ["/opt/disks/vm3.qcow2"]


def test_a_disk_smaller_than_the_image_is_refused():
    with pytest.raises(UsageError, match="1024 MiB: the image takes 2048"):
        DiskSpec(size_mib=1024)
