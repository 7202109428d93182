"""What devices are told and what they say, as text and as netlink; addresses; keys; the guard."""

import base64
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from pyroute2.netlink.generic.wireguard import AsyncWireGuard, wgmsg

from transhume.errors import OverlayError
from transhume.execute.overlay.underlay.device import DeviceSetting, PeerReport, PeerSetting
from transhume.execute.overlay.underlay.interface import guard_text
from transhume.execute.overlay.underlay.kernel_device import peer_attributes
from transhume.execute.overlay.underlay.kernel_device import reports_of as kernel_reports
from transhume.execute.overlay.underlay.keys import private_key, public_key
from transhume.execute.overlay.underlay.settings import TunnelNetwork, UnderlaySettings
from transhume.execute.overlay.underlay.wireguard_text import (
    peers_text,
    reports_of,
    setting_text,
)
from transhume.knowledge.model import IpAddress, SiteName

KEY = base64.b64encode(bytes(range(32))).decode()
HEX = bytes(range(32)).hex()
PEER = PeerSetting(
    public_key=KEY,
    allowed_ips=("100.64.0.1/32", "100.96.0.1/32"),
    endpoint="192.0.2.1:51820",
    keepalive_seconds=25,
)


def settings(tmp_path, **changes) -> UnderlaySettings:
    return UnderlaySettings(
        site=SiteName("a"), identity=tmp_path, key_file=tmp_path / "key", **changes
    )


def test_a_device_is_told_its_key_and_port():
    told = setting_text(DeviceSetting(private_key=bytes(32), listen_port=51820))
    assert told == f"set=1\nprivate_key={'00' * 32}\nlisten_port=51820\n\n"


def test_a_peer_is_told_in_one_request():
    assert peers_text([PEER]) == (
        f"set=1\npublic_key={HEX}\nendpoint=192.0.2.1:51820\nreplace_allowed_ips=true\n"
        "allowed_ip=100.64.0.1/32\nallowed_ip=100.96.0.1/32\npersistent_keepalive_interval=25\n\n"
    )


def test_a_peer_that_begins_anew_is_removed_first():
    told = peers_text([replace(PEER, afresh=True)])
    assert told.startswith(f"set=1\npublic_key={HEX}\nremove=true\npublic_key={HEX}\nendpoint=")


def test_peers_that_are_gone_are_removed():
    assert peers_text([], [KEY]) == f"set=1\npublic_key={HEX}\nremove=true\n\n"


def test_an_answer_of_wireguard_go_is_read():
    answer = (
        f"private_key={'00' * 32}\nlisten_port=51820\n"
        f"public_key={HEX}\npreshared_key={'00' * 32}\nprotocol_version=1\nendpoint=[2001:db8::1]:7\n"
        "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=500000000\ntx_bytes=5\nrx_bytes=6\n"
        "persistent_keepalive_interval=25\nallowed_ip=100.64.0.1/32\nallowed_ip=100.96.0.1/32\n"
        f"public_key={'11' * 32}\nlast_handshake_time_sec=0\nerrno=0\n\n"
    )
    first, second = reports_of(answer)
    assert first == PeerReport(
        public_key=KEY,
        allowed_ips=("100.64.0.1/32", "100.96.0.1/32"),
        endpoint="[2001:db8::1]:7",
        keepalive_seconds=25,
        handshake_at=1700000000.5,
        received_bytes=6,
        sent_bytes=5,
    )
    assert (second.endpoint, second.handshake_at) == (None, 0.0)


@pytest.mark.parametrize("endpoint", ["192.0.2.1:51820", "[2001:db8::1]:51820"])
def test_what_the_kernel_is_told_reads_back_from_its_messages(endpoint):
    """No kernel is needed for that: pyroute2 packs the message as for the kernel, and unpacks it again."""
    packer = AsyncWireGuard.__new__(AsyncWireGuard)
    packed, read = wgmsg(), wgmsg()
    packer._wg_set_peer(packed, peer_attributes(replace(PEER, endpoint=endpoint)))
    packed.encode()
    read.data = packed.data
    read.decode()

    (found,) = kernel_reports([read])

    assert found == PeerReport(
        public_key=KEY,
        allowed_ips=PEER.allowed_ips,
        endpoint=endpoint,
        keepalive_seconds=25,
    )


def test_a_peer_without_an_endpoint_keeps_what_the_kernel_learnt():
    assert "endpoint_addr" not in peer_attributes(replace(PEER, endpoint=None))


def test_addresses_follow_from_names():
    """They must never change: sites of different versions have to agree on them."""
    tunnels = TunnelNetwork()
    assert tunnels.address(SiteName("rennes")) == "100.86.185.143"
    assert tunnels.relayed(SiteName("rennes")) == "100.118.185.143"


def test_fixed_addresses_go_before_names():
    tunnels = TunnelNetwork(
        network=IPv4Network("10.0.0.0/8"), fixed={SiteName("a"): IpAddress("10.0.0.7")}
    )
    assert tunnels.address(SiteName("a")) == "10.0.0.7"
    assert tunnels.relayed(SiteName("a")) == "10.128.0.7"


@pytest.mark.parametrize(
    "fixed",
    [
        pytest.param({"a": "100.96.0.1"}, id="in-the-half-for-relays"),
        pytest.param({"a": "192.0.2.1"}, id="elsewhere"),
        pytest.param({"a": "100.64.0.1", "b": "100.64.0.1"}, id="twice"),
    ],
)
def test_fixed_addresses_that_cannot_work_are_refused(fixed):
    with pytest.raises(OverlayError):
        TunnelNetwork(fixed=fixed)


def test_an_endpoint_by_a_relay_is_told_from_others():
    tunnels = TunnelNetwork()
    found = [
        tunnels.is_relayed(endpoint)
        for endpoint in ("100.96.0.1:51820", "192.0.2.1:51820", "[2001:db8::1]:51820")
    ]
    assert found == [True, False, False]


@pytest.mark.parametrize(
    "changes", [{"device": "a-name-too-long-for-one"}, {"endpoints": ("host",)}]
)
def test_settings_of_which_no_device_can_be_made_are_refused(tmp_path, changes):
    with pytest.raises(OverlayError):
        settings(tmp_path, **changes)


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path):
    path = tmp_path / "new" / "key"
    first = private_key(path)

    assert private_key(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(public_key(first)) == 32


def test_a_key_that_others_may_read_is_not_used(tmp_path):
    private_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(OverlayError, match="others may read"):
        private_key(tmp_path / "key")


def test_a_damaged_key_is_told(tmp_path):
    (tmp_path / "key").write_bytes(b"short")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(OverlayError, match="no key of the underlay"):
        private_key(tmp_path / "key")


def test_only_a_public_site_that_relays_passes_packets_on(tmp_path):
    public = {"endpoints": ("192.0.2.1:51820",)}
    passing = [
        'oifname "thwg0" ip saddr' in "\n".join(guard_text(settings(tmp_path, **changes)))
        for changes in (public, public | {"relays": False}, {})
    ]
    assert passing == [True, False, False]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="behind-nat"),
        pytest.param(
            {"endpoints": ("192.0.2.1:51820",), "tcp_ports": frozenset({22, 80})}, id="public"
        ),
        pytest.param({"udp_ports": frozenset()}, id="nothing-admitted"),
    ],
)
def test_nft_takes_the_guard(tmp_path, changes):
    if shutil.which("nft") is None or os.geteuid() != 0:
        pytest.skip("NOT TESTED: needs nft, and root to run it")
    text = "\n".join(guard_text(settings(tmp_path, **changes)))
    done = subprocess.run(
        ["nft", "--check", "-f", "-"], input=text, text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
