"""What the agents of a network's sites have to agree about, as their deployment files say it."""

from dataclasses import replace

import pytest

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite

A = OverlaySite(name="a", bridge="br0", underlay="eth0", vtep="192.0.2.1", uplink="eth1")
B = OverlaySite(name="b", bridge="br0", underlay="eth0", vtep="192.0.2.2")
NETWORK = OverlayNetwork(vni=66, sites=(A, B), gateway=GatewaySettings(ip="10.66.0.1", mac="x"))


@pytest.mark.parametrize(
    "other",
    [
        replace(NETWORK, sites=(A,)),
        replace(NETWORK, sites=(A, replace(B, name="c"))),
        replace(NETWORK, sites=(A, replace(B, vtep="192.0.2.3"))),
        replace(NETWORK, sites=(A, replace(B, uplink="eth1"))),
        replace(NETWORK, gateway=None),
        replace(NETWORK, port=8472),
    ],
    ids=["site left", "renamed", "renumbered", "leads outside", "gateway gone", "port"],
)
def test_what_would_part_sites_is_known_by_its_digest(other: OverlayNetwork) -> None:
    assert other.terms != NETWORK.terms


@pytest.mark.parametrize(
    "same",
    [
        replace(NETWORK, sites=(B, A)),
        replace(NETWORK, sites=(A, replace(B, bridge="br9", underlay="wan", netns="n"))),
        replace(NETWORK, sites=(replace(A, uplink="wan"), B)),
    ],
    ids=["order", "their own affair", "the device's name"],
)
def test_what_is_a_sites_own_affair_may_differ(same: OverlayNetwork) -> None:
    assert same.terms == NETWORK.terms
