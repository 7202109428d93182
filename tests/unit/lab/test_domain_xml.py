"""A guest as libvirt is told of it."""

from xml.etree import ElementTree as ET

from transhume.knowledge.model import CloudName, ClusterName
from transhume.lab.domain_xml import VM_NAMESPACE, domain_xml
from transhume.lab.spec import GuestSpec, address_of

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


def test_the_kernel_tells_init_what_the_guest_is_to_do():
    arguments = (ET.fromstring(domain_xml(GUEST)).findtext("os/cmdline") or "").split()

    assert "TH_ADDRESS=10.66.0.13/24" in arguments
    assert "TH_SENDS=10.66.0.15:2000,10.66.0.11:100" in arguments


def test_a_guest_that_panics_is_seen_to_be_gone():
    domain = ET.fromstring(domain_xml(GUEST))

    assert (domain.findtext("on_reboot"), domain.findtext("on_crash")) == ("destroy", "destroy")
