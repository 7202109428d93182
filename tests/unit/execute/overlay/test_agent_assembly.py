"""What an agent of the deployment file asks before it claims an address."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from transhume.deployment.loader import load_deployment
from transhume.execute.overlay.agent.assembly import agents_of
from transhume.knowledge.model import MacAddress
from transhume.knowledge.store import Store

pytest.importorskip("libvirt")

DEPLOYMENT = """
overlay: {vni: 66, agents: true}
clouds:
  a: {overlay: {bridge: br0, underlay: wan0, vtep: 192.0.2.1}, hosts: {a1: {}}}
  b: {overlay: {bridge: br0, underlay: wan0, vtep: 192.0.2.2}, hosts: {b1: {uri: "test:///default"}}}
gateways:
  edge: {bridge: br0, underlay: wan0, vtep: 192.0.2.9}
"""
STORE = cast(
    "Store",
    SimpleNamespace(register=lambda vni: SimpleNamespace(vni=vni), agent_lease=lambda *_: None),
)


@pytest.fixture
def look_at(tmp_path: Path) -> Callable[[str], Any]:
    (tmp_path / "transhume.yaml").write_text(DEPLOYMENT)
    deployment = load_deployment(tmp_path / "transhume.yaml")

    async def look(site: str) -> Any:
        async with agents_of(deployment, site, STORE, lambda: datetime.now(UTC)) as agents:
            return agents._first._senses.look

    return lambda site: asyncio.run(look(site))


def test_no_frame_draws_a_vm_to_a_site_that_has_no_hosts(look_at: Callable[[str], Any]) -> None:
    """Whoever is on an edge router's bridge could else take any VM's address, from all sites."""
    look = look_at("edge")
    assert look is not None
    assert asyncio.run(look(MacAddress("52:54:00:00:00:01"))) is None


def test_frames_are_believed_where_hosts_cannot_be_asked(look_at: Callable[[str], Any]) -> None:
    assert look_at("a") is None
    assert look_at("b") is not None
