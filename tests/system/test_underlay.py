"""The underlay between sites of which some are behind NAT: real WireGuard, real nftables, no guests."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest
from pyroute2 import netns as namespaces

from tests.system.nat_sites import (
    PORT,
    WAN,
    A,
    B,
    C,
    NatSite,
    Underlay,
    block,
    exchange,
    forget_connections,
    issue,
    missing_programs,
    network_of,
    programs_of,
    settings_of,
    unblock,
    underlay_of,
)
from tests.system.overlay_sites import make_bridge, plug
from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.migration.trust import PeerKind, init_authority, load_identity
from transhume.execute.overlay import VxlanOverlay
from transhume.execute.overlay.underlay import PathKind
from transhume.execute.overlay.underlay.keys import private_key, public_key
from transhume.execute.overlay.underlay.pair import OPENING_SECONDS
from transhume.execute.overlay.underlay.statements import sign
from transhume.execute.overlay.underlay.wireguard_text import base64_key
from transhume.knowledge.codec import decode
from transhume.knowledge.model import MacAddress, SignedEndpoint, SiteEndpoint, SiteName
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: network namespaces need root"),
    pytest.mark.skipif(missing_programs() is not None, reason=missing_programs() or ""),
]

RANDOM = (A, replace(B, random=True), replace(C, random=True))
REFUSING = (A, replace(B, closed=False), replace(C, closed=False))
SEEN_LATER_SECONDS = 2 * OPENING_SECONDS
VM_B, VM_C, MOVER = "thtest-u-vm-b", "thtest-u-vm-c", "thtest-u-mover"
MOVER_MAC, MOVER_IP = MacAddress("52:54:00:00:00:99"), "10.77.0.99"
MACS = {VM_B: MacAddress("52:54:00:00:00:02"), VM_C: MacAddress("52:54:00:00:00:03")}
IPS = {VM_B: "10.77.0.2", VM_C: "10.77.0.3"}
VM_MTU = 1370
"""What VXLAN leaves of the device's 1420."""


@pytest.fixture
def sites(request):
    return getattr(request, "param", (A, B, C))


@pytest.fixture
def network(sites):
    with network_of(sites):
        yield


@pytest.fixture
async def underlay(sites, network, tmp_path, redis):
    issue(init_authority(tmp_path / "authority"), sites, tmp_path)
    async with underlay_of(sites, tmp_path, redis) as found:
        yield found


async def test_a_site_behind_nat_and_a_public_one_talk_both_ways(underlay: Underlay):
    assert await underlay.talk(B, A)
    assert await underlay.talk(A, B)


@pytest.mark.parametrize(
    "sites",
    [pytest.param((A, B, C), id="dropping"), pytest.param(REFUSING, id="refusing")],
    indirect=True,
)
async def test_two_sites_behind_nat_reach_each_other_directly(underlay: Underlay):
    """Also where the NATs refuse what nobody asked for, and remember it: a port that is taken so is lost."""
    await underlay.directly(B, C)

    assert await underlay.talk(B, C)
    assert await underlay.talk(C, B)


@pytest.mark.parametrize("sites", [REFUSING], ids=["refusing"], indirect=True)
async def test_a_site_that_is_seen_later_than_the_other_is_reached_directly_as_well(
    sites, network, tmp_path, redis
):
    issue(init_authority(tmp_path / "authority"), sites, tmp_path)
    block(A, C)
    async with underlay_of(sites, tmp_path, redis) as underlay:
        await underlay.until(lambda: underlay.path(A, B) is PathKind.DIRECT, "A and B")
        await asyncio.sleep(SEEN_LATER_SECONDS)
        unblock()

        await underlay.directly(B, C)


@pytest.mark.parametrize("sites", [RANDOM], ids=["random"], indirect=True)
async def test_two_sites_whose_nats_choose_ports_talk_by_a_relay(underlay: Underlay):
    assert await underlay.talk(B, C)
    assert await underlay.talk(C, B)
    assert await underlay.talk(B, C, length=1392), "what fills a packet goes in two to the relay"
    await underlay.until(
        lambda: underlay.path(B, C) is underlay.path(C, B) is PathKind.RELAY, "B-C by a relay"
    )


@pytest.mark.parametrize("sites", [RANDOM], ids=["random"], indirect=True)
async def test_a_relay_sees_nothing_but_encrypted_packets(underlay: Underlay):
    packets = 0x0800
    with closing(
        socket_in(A.netns, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(packets))
    ) as tap:
        tap.bind((underlay[A].settings.device, packets))
        tap.setblocking(False)

        assert await underlay.talk(B, C)

        seen = []
        with suppress(BlockingIOError):
            while True:
                seen.append(tap.recv(2048))
    own = {socket.inet_aton(underlay[site].address) for site in (B, C)}
    assert seen, "nothing went by the relay"
    assert not any(b"xxxxxxxx" in packet for packet in seen)
    assert not any(own & {packet[12:16], packet[16:20]} == own for packet in seen)


@pytest.mark.parametrize(
    "sites",
    [pytest.param((A, B, C), id="keeping"), pytest.param(RANDOM, id="random")],
    indirect=True,
)
async def test_traffic_comes_back_after_the_nats_forgot_it(underlay: Underlay, sites):
    assert await underlay.talk(B, C)
    if sites is not RANDOM:
        await underlay.directly(B, C)
    for site in (B, C):
        await asyncio.to_thread(forget_connections, site)

    assert await underlay.talk(C, B)
    assert await underlay.talk(A, B)
    assert await underlay.talk(B, C)


async def test_a_direct_path_that_is_blocked_is_left_for_the_relay(underlay: Underlay):
    await underlay.directly(B, C)

    await asyncio.to_thread(block, B, C)

    assert await underlay.talk(B, C)
    assert await underlay.talk(C, B)
    assert underlay.path(B, C) is PathKind.RELAY


async def test_an_agent_that_starts_again_finds_its_peers(sites, network, tmp_path, redis):
    issue(init_authority(tmp_path / "authority"), sites, tmp_path)
    async with underlay_of((A, B), tmp_path, redis) as underlay:
        assert await underlay.talk(A, B)
    async with underlay_of((A, B), tmp_path, redis) as underlay:
        assert await underlay.talk(A, B)


async def test_a_record_that_its_site_did_not_sign_changes_nothing(underlay: Underlay, tmp_path):
    assert await underlay.talk(A, B)
    true = {record.site: record for record in await underlay.directory.all()}[B.name]
    other_key = base64_key(public_key(private_key(tmp_path / "another-key")))
    forged = replace(decode(SiteEndpoint, true.statement), public_key=other_key)
    (tmp_path / "elsewhere").mkdir()
    issue(init_authority(tmp_path / "elsewhere" / "authority"), (B,), tmp_path / "elsewhere")

    for folder in (tmp_path / "c-identity", tmp_path / "elsewhere" / "b-identity"):
        await underlay.directory.put(sign(forged, load_identity(folder, kind=PeerKind.SITE)))
        await asyncio.sleep(1.5)

        assert underlay[A].addresses[B.name] == underlay[B].address
        assert await underlay.talk(A, B, patience=2.0)
    await underlay.directory.put(replace(true, statement=true.statement.replace("51820", "51821")))
    await underlay.directory.put(
        SignedEndpoint(site=SiteName("d"), statement="{}", certificate="", signature="")
    )
    assert await underlay.talk(B, A)
    assert set(underlay[A].addresses) == {B.name, C.name}


async def test_wireguard_go_is_started_again_when_it_was_killed(underlay: Underlay):
    assert await underlay.talk(A, B)
    if underlay[A].device_kind != "wireguard-go":
        pytest.skip("NOT TESTED: this kernel has WireGuard, so that there is no program to kill")
    for site in (A, B):
        (before,) = programs_of(underlay[site].settings.device)
        os.kill(before, signal.SIGKILL)
        await underlay.until(
            lambda site=site, before=before: (
                programs_of(underlay[site].settings.device) not in ([], [before])
            ),
            "another program",
        )

        assert await underlay.talk(A, B)
        assert await underlay.talk(B, A)


async def test_only_the_guard_is_left_when_a_mesh_stops(sites, network, tmp_path, redis):
    issue(init_authority(tmp_path / "authority"), sites, tmp_path)
    async with underlay_of(sites, tmp_path, redis) as underlay:
        assert await underlay.talk(A, B)
        device = underlay[A].settings.device

    assert programs_of(device) == []
    assert await asyncio.to_thread(links_of, A) == {"lo", "wan0"}
    assert "transhume_thtest-ua" in await asyncio.to_thread(rules_of, A)


async def test_only_what_was_admitted_gets_in_by_a_tunnel(underlay: Underlay):
    assert await underlay.talk(B, A)

    assert not await underlay.talk(B, A, port=PORT + 1, patience=2.0)


async def test_nobody_outside_can_pretend_to_send_from_a_tunnel(underlay: Underlay):
    """VXLAN believes any source; so what isn't from the tunnel mustn't carry an address of the tunnels."""
    assert await underlay.talk(B, A)
    with closing(socket_in(A.netns, kind=socket.SOCK_DGRAM)) as ear:
        ear.bind(("", PORT))
        ear.settimeout(1.0)
        assert await asyncio.to_thread(pretended, A.gateway, ear), (
            "nothing arrives: this proves nothing"
        )
        assert not await asyncio.to_thread(pretended, underlay[B].address, ear)


def pretended(source: str, ear: socket.socket) -> bool:
    """Send from the WAN to the public site, with any source; say whether it is heard."""
    with closing(socket_in(WAN, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)) as mouth:
        udp = struct.pack("!HHHH", PORT, PORT, 12, 0) + b"oops"
        addresses = socket.inet_aton(source) + socket.inet_aton(A.outer)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 32, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
        mouth.sendto(ip + udp, (A.outer, 0))
    with suppress(TimeoutError):
        return ear.recv(100) == b"oops"
    return False


async def test_a_guard_that_somebody_removed_is_made_again(underlay: Underlay, monkeypatch):
    monkeypatch.setattr("transhume.execute.overlay.underlay.mesh.SET_UP_SECONDS", 1.0)

    await asyncio.to_thread(flush_rules, A)

    await underlay.until(lambda: "transhume_thtest-ua" in rules_of(A), "the guard")


def flush_rules(site: NatSite) -> None:
    with inside(site.netns):
        subprocess.run(["nft", "flush", "ruleset"], check=True)


def rules_of(site: NatSite) -> str:
    with inside(site.netns):
        return subprocess.run(
            ["nft", "list", "tables"], check=True, capture_output=True, text=True
        ).stdout


async def test_a_site_with_anothers_certificate_is_told_at_once(network, sites, tmp_path, redis):
    from transhume.errors import OverlayError
    from transhume.execute.overlay.underlay import Mesh

    issue(init_authority(tmp_path / "authority"), sites, tmp_path)
    settings = replace(settings_of(A, tmp_path), identity=tmp_path / "b-identity")

    with pytest.raises(OverlayError, match="certificate of site b, not of site a"):
        Mesh(settings, directory=None)  # type: ignore[arg-type]


@pytest.fixture
def virtual_machines(sites: tuple[NatSite, ...], network) -> Iterator[None]:
    """A bridge at each site, a VM at B and one at C that know of each other, and one at B that will move."""
    made = []
    try:
        for site in sites:
            with netlink_in(site.netns) as netlink:
                make_bridge(netlink, 1500)
        for netns in (VM_B, VM_C, MOVER):
            namespaces.create(netns)
            made.append(netns)
            with inside(netns):
                disabled = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
                os.write(descriptor := os.open(disabled, os.O_WRONLY), b"1")
                os.close(descriptor)
        for vm, site in ((VM_B, B), (VM_C, C)):
            plug(vm, site.netns, "eth0", "vm", IPS[vm], mtu=VM_MTU, address=str(MACS[vm]))
        put_mover_at(B)
        yield
    finally:
        for netns in made:
            namespaces.remove(netns)


def put_mover_at(site: NatSite) -> None:
    with netlink_in(MOVER) as mover:
        for old in mover.link_lookup(ifname="eth0"):
            mover.link("del", index=old)
    plug(MOVER, site.netns, "eth0", "mover", MOVER_IP, mtu=VM_MTU, address=str(MOVER_MAC))


def links_of(site: NatSite) -> set[str]:
    with netlink_in(site.netns) as netlink:
        return {link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}


@pytest.mark.parametrize(
    "sites",
    [pytest.param((A, B, C), id="direct"), pytest.param(RANDOM, id="relay")],
    indirect=True,
)
async def test_machines_of_two_sites_behind_nat_talk_before_and_after_a_move(
    underlay: Underlay, sites: tuple[NatSite, ...], virtual_machines
):
    overlay = VxlanOverlay(
        OverlayNetwork(
            vni=77,
            sites=tuple(
                OverlaySite(
                    name=site.name,
                    bridge="br0",
                    underlay=underlay[site].settings.device,
                    vtep=underlay[site].address,
                    netns=site.netns,
                )
                for site in sites
            ),
        )
    )
    await overlay.join()
    await overlay.bind([MACS[VM_B], MOVER_MAC], B.name)
    await overlay.bind([MACS[VM_C]], C.name)

    async def all_talk() -> None:
        for near, far, to in (
            (VM_B, VM_C, IPS[VM_C]),
            (VM_C, VM_B, IPS[VM_B]),
            (VM_B, MOVER, MOVER_IP),
            (VM_C, MOVER, MOVER_IP),
            (MOVER, VM_B, IPS[VM_B]),
            (MOVER, VM_C, IPS[VM_C]),
        ):
            assert await asyncio.to_thread(exchange, near, far, to, length=1342), (near, far)

    await all_talk()

    await asyncio.to_thread(put_mover_at, C)
    await overlay.bind([MOVER_MAC], C.name)

    await all_talk()
