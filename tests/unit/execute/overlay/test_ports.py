"""Which ports a bridge has, told by the kernel's messages of links."""

import struct

from transhume.execute.overlay.sightings.ports import DELETE_LINK, NEW_LINK, PortChange, Ports

BRIDGE = 4


def link(device: int, name: str, master: int | None, family: int = 0) -> bytes:
    packed = name.encode() + b"\0"
    body = struct.pack("=BxHiII", family, 1, device, 0, 0)
    body += struct.pack("=HH", 4 + len(packed), 3) + packed.ljust((len(packed) + 3) & ~3, b"\0")
    return body if master is None else body + struct.pack("=HHI", 8, 10, master)


def noted(ports: Ports, kind: int, body: bytes) -> list[PortChange]:
    return list(ports.note(kind, body))


def test_a_port_is_told_once():
    ports = Ports(BRIDGE, frozenset({"thvx1"}))

    first = noted(ports, NEW_LINK, link(7, "vnet0", BRIDGE))
    again = noted(ports, NEW_LINK, link(7, "vnet0", BRIDGE, family=7))

    assert first == [PortChange(7, "vnet0", is_port=True)]
    assert again == []
    assert ports.names == {7: "vnet0"}


def test_tunnels_and_ports_of_other_bridges_are_none():
    ports = Ports(BRIDGE, frozenset({"thvx1"}))

    assert noted(ports, NEW_LINK, link(7, "thvx1", BRIDGE)) == []
    assert noted(ports, NEW_LINK, link(8, "vnet0", 5)) == []
    assert noted(ports, NEW_LINK, link(9, "eth0", None)) == []


def test_a_port_that_leaves_the_bridge_is_one_no_more():
    ports = Ports(BRIDGE, frozenset())
    for number in (7, 8, 9):
        noted(ports, NEW_LINK, link(number, f"vnet{number}", BRIDGE))

    gone = [
        *noted(ports, DELETE_LINK, link(7, "vnet7", None)),
        *noted(ports, NEW_LINK, link(8, "vnet8", None)),
        *noted(ports, DELETE_LINK, link(9, "vnet9", BRIDGE, family=7)),
    ]

    assert [change.device for change in gone] == [7, 8, 9]
    assert ports.names == {}


def test_a_renamed_port_is_told_under_its_new_name():
    ports = Ports(BRIDGE, frozenset())
    noted(ports, NEW_LINK, link(7, "tap0", BRIDGE))

    assert noted(ports, NEW_LINK, link(7, "vnet0", BRIDGE)) == [
        PortChange(7, "vnet0", is_port=True)
    ]


def test_a_port_that_nobody_speaks_of_any_more_is_gone():
    ports = Ports(BRIDGE, frozenset())
    noted(ports, NEW_LINK, link(7, "vnet0", BRIDGE))

    changes = list(ports.note_all([(NEW_LINK, link(8, "vnet1", BRIDGE))]))

    assert changes == [PortChange(8, "vnet1", is_port=True), PortChange(7, "vnet0", is_port=False)]
