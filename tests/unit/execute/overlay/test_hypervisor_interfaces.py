"""What a site's hypervisors say of their VMs' interfaces, read from libvirt's XML."""

from structlog.testing import capture_logs

from transhume.execute.overlay.agent.domains import on_bridge, ports_in
from transhume.knowledge.model import Interface, IpAddress, MacAddress

DOMAIN = """
<domain>
  <metadata>
    <t:vm xmlns:t="https://transhume.dev/xmlns/vm/1" cluster="blast" ips="10.66.0.11,10.66.0.12"/>
  </metadata>
  <devices>{interfaces}</devices>
</domain>
"""
ON_BRIDGE = """
<interface type="bridge">
  <mac address="52:54:00:7A:00:01"/><source bridge="br0"/><target dev="vnet3"/>
</interface>
"""
ELSEWHERE = """
<interface type="bridge"><mac address="52:54:00:7a:00:02"/><source bridge="br9"/></interface>
"""


def read(*interfaces: str) -> list[Interface]:
    return list(on_bridge("br0", ports_in(DOMAIN.format(interfaces="".join(interfaces)))))


def test_an_interface_has_its_port_and_the_vms_addresses() -> None:
    ips = (IpAddress("10.66.0.11"), IpAddress("10.66.0.12"))
    assert read(ON_BRIDGE) == [
        Interface(mac=MacAddress("52:54:00:7a:00:01"), device="vnet3", ips=ips)
    ]


def test_an_interface_on_another_bridge_isnt_the_overlays() -> None:
    assert read(ELSEWHERE) == []


def test_of_several_interfaces_nobody_knows_which_has_an_address() -> None:
    """The metadata has the VM's addresses: to answer for the wrong one would make a black hole."""
    assert [each.ips for each in read(ON_BRIDGE, ELSEWHERE)] == [()]


def test_what_is_no_address_is_left_out_and_told_once() -> None:
    ips, told = "10.66.0.11,10.66.0.12", "10.66.0.11/24, FD66::0:10, ten, fd66::10"
    xml = DOMAIN.format(interfaces=ON_BRIDGE).replace(ips, told)

    with capture_logs() as logs:
        found = [port.interface.ips for _ in range(2) for port in ports_in(xml)]

    assert found == [(IpAddress("fd66::10"),)] * 2
    assert [each["seen"] for each in logs] == ["10.66.0.11/24", "ten"]


def test_an_interface_whose_mac_is_none_leaves_its_addresses_to_no_other() -> None:
    damaged = ON_BRIDGE.replace("52:54:00:7A:00:01", "52:54:00:7A:00")
    assert read(damaged) == []
    assert [each.ips for each in read(damaged, ON_BRIDGE)] == [()]


def test_a_domain_without_metadata_has_interfaces_too() -> None:
    (found,) = ports_in(f"<domain><devices>{ON_BRIDGE}</devices></domain>")
    assert (found.bridge, found.interface.ips) == ("br0", ())
