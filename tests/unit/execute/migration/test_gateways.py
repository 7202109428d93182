"""What the gateways' transport says of a way."""

from pathlib import Path

from tests.unit.execute.migration.gateway.two_sites import two_sites
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
