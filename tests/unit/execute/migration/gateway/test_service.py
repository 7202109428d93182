"""A gateway's beginning and end."""

from pathlib import Path

import pytest

from tests.unit.execute.migration.gateway.two_sites import free_port, site, write_site
from transhume.errors import UsageError


async def test_a_gateway_that_finds_its_place_taken_leaves_it_and_its_port(tmp_path: Path) -> None:
    ports = {"a": free_port(), "b": free_port()}
    control = tmp_path / "a/control.sock"
    config = write_site(tmp_path, "b", ports, control=str(control))
    async with site(write_site(tmp_path, "a", ports)) as first:
        for _ in range(2):  # the first of which mustn't keep the port
            with pytest.raises(UsageError, match="another gateway listens there"):
                async with site(config):
                    raise AssertionError("it began")
        assert (await first.client.ask("status"))["routes"] == []
    assert not control.exists()
