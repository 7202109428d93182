"""The messages that we pack are those that an independent reader, and our own, understand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from transhume.execute.overlay.plane.entries import attributes_in, entry_in, messages_in
from transhume.execute.overlay.plane.messages import (
    BRIDGE_FAMILY,
    OURS,
    Request,
    answer_for,
    answer_no_more,
    forward,
    forward_no_more,
    forward_too,
    packed,
    put_behind,
    take_from_behind,
)
from transhume.knowledge.model import IpAddress, MacAddress

MAC = MacAddress("52:54:00:12:34:56")
IPV4, IPV6 = IpAddress("172.31.99.2"), IpAddress("fd00::2")
DEVICE = 7
IN_BRIDGE, IN_VXLAN, LEARNT_OUTSIDE = 0x04, 0x02, 0x10

macs = st.binary(min_size=6, max_size=6).map(lambda packed: MacAddress(packed.hex(":")))
ips = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda ip: IpAddress(str(ip)))


def read(request: Request) -> ndmsg:
    """Return the message as pyroute2 reads it."""
    message = ndmsg(packed(request, 5))
    message.decode()
    return message


def test_a_site_is_written_into_the_devices_own_table():
    message = read(forward(DEVICE, MAC, IPV4))

    assert message["header"]["type"] == 28
    assert (message["family"], message["ifindex"]) == (BRIDGE_FAMILY, DEVICE)
    assert (message["flags"], message["state"]) == (IN_VXLAN, 0xC0)
    assert dict(message["attrs"]) == {"NDA_LLADDR": MAC, "NDA_DST": IPV4}


def test_a_port_is_written_into_the_bridges_table():
    message = read(put_behind(DEVICE, MAC))

    assert (message["flags"], message["ifindex"]) == (IN_BRIDGE | LEARNT_OUTSIDE, DEVICE)
    assert dict(message["attrs"]) == {"NDA_LLADDR": MAC}


@pytest.mark.parametrize(("ip", "family"), [(IPV4, 2), (IPV6, 10)], ids=["ipv4", "ipv6"])
def test_a_neighbour_is_written_for_good_and_marked_as_ours(ip, family):
    message = read(answer_for(DEVICE, ip, MAC))

    assert (message["family"], message["state"]) == (family, 0x80)
    found = dict(message["attrs"])
    assert (found["NDA_LLADDR"], found["NDA_PROTOCOL"]) == (MAC, OURS)
    assert entry_in(28, answer_for(DEVICE, ip, MAC).body).to == ip


@pytest.mark.parametrize(
    ("request_", "table"),
    [
        (forward_no_more(DEVICE, MAC), IN_VXLAN),
        (take_from_behind(DEVICE, MAC), IN_BRIDGE),
        (answer_no_more(DEVICE, IPV4), 0),
    ],
    ids=["site", "port", "neighbour"],
)
def test_what_is_deleted_is_deleted_in_its_table(request_, table):
    message = read(request_)

    assert message["header"]["type"] == 29
    assert message["flags"] == table


@pytest.mark.parametrize(
    ("request_", "flags"),
    [(forward(DEVICE, MAC, IPV4), 0x501), (forward_too(DEVICE, MAC, IPV4), 0xC01)],
    ids=["in place of others", "besides others"],
)
def test_writing_says_what_becomes_of_the_others(request_, flags):
    assert read(request_)["header"]["flags"] == flags


@given(mac=macs, ip=ips, device=st.integers(1, 2**31 - 1))
def test_what_we_write_is_what_we_read(mac, ip, device):
    request = forward(device, mac, ip)
    datagram = packed(request, 1) + packed(answer_for(device, ip, mac), 2)

    first, second = messages_in(datagram)

    assert (first.sequence, second.sequence) == (1, 2)
    there, neighbour = entry_in(first.kind, first.body), entry_in(second.kind, second.body)
    assert (there.mac, there.to, there.device) == (mac, ip, device)
    assert there.of_tunnel
    assert not there.of_bridge
    assert (neighbour.mac, neighbour.to) == (mac, ip)
    assert neighbour.of_ours


@given(st.binary(max_size=200))
def test_a_damaged_datagram_is_read_without_harm(datagram):
    for message in messages_in(datagram):
        list(attributes_in(message.body, 12))
        entry_in(message.kind, message.body)


@given(st.binary(max_size=60), st.sampled_from([28, 29]))
def test_a_damaged_message_is_read_without_harm(body, kind):
    entry_in(kind, body)
