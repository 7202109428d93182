"""What the gateways' transport says of a way."""

from pathlib import Path

import pytest

from tests.unit.execute.migration.gateway.two_sites import two_sites
from transhume.errors import GatewayUnreachable, MoveFailed
from transhume.execute.migration.control_client import GatewayAddress, GatewayClient
from transhume.execute.migration.gateways import Gateways
from transhume.knowledge.model import CloudName, HostName, VmName

A, B, WITHOUT = CloudName("a"), CloudName("b"), CloudName("without")
CLOUDS = {HostName("a1"): A, HostName("a2"): A, HostName("b1"): B, HostName("w1"): WITHOUT}


async def test_moves_through_the_same_gateways_have_a_link_in_common(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b):
        gateways = Gateways(
            clients={A: a.client, B: b.client},
            cloud_of=CLOUDS.__getitem__,
            tenant_of=lambda _vm: "t",
        )

        async def link(source: str, destination: str) -> object:
            ends = HostName(source), HostName(destination)
            async with gateways.route(VmName("vm1"), *ends) as route:
                return route.link

        assert await link("a1", "b1") == await link("a2", "b1") == (A, B)
        assert await link("b1", "a1") == (B, A)
        assert await link("a1", "a2") is None, "within a cloud"
        assert await link("a1", "w1") is None, "one of them has no gateway"


async def test_moves_that_a_dead_gateway_cant_send_leave_a_destination_room_for_others(
    tmp_path: Path,
) -> None:
    """Only so many tickets may be out; those who flee from elsewhere need theirs."""
    async with two_sites(tmp_path) as (a, b):
        b.gateway.admissions._most_open = 2
        dead = GatewayClient(GatewayAddress(site="dead", socket=tmp_path / "nobody.sock"))
        gateways = Gateways(
            clients={A: a.client, B: b.client, WITHOUT: dead},
            cloud_of=CLOUDS.__getitem__,
            tenant_of=lambda _vm: "t",
        )
        for number in range(3):
            vm = VmName(f"vm{number}")
            with pytest.raises(MoveFailed, match="gateway"):
                async with gateways.route(vm, HostName("w1"), HostName("b1")):
                    pass
            with pytest.raises(GatewayUnreachable):
                await gateways.warm(vm, WITHOUT, B)
        async with gateways.route(VmName("vm9"), HostName("a1"), HostName("b1")) as route:
            assert route.link == (A, B)
        assert b.gateway.admissions.open == ()
