"""How much is known of VMs elsewhere counts as long as the gateways say so, and no longer."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.contract.conftest import NOON
from tests.contract.daemon_stage import ONE_SERVER, told
from transhume.daemon.senses import warmth
from transhume.errors import GatewayUnreachable
from transhume.execute.migration.control_client import GatewayClient
from transhume.knowledge.model import CloudName, Resources, Vm, VmName, Warmth
from transhume.knowledge.model.topology import Placement
from transhume.knowledge.store import Store

pytestmark = ONE_SERVER

VMS = [VmName("vm1"), VmName("vm2")]
A, B, C = (CloudName(name) for name in "abc")


class Gateway:
    """One that keeps a VM warm at c, as long as it does, and is there."""

    def __init__(self, vm: VmName) -> None:
        self.warm: VmName | None = vm
        self.is_there = True

    async def ask(self, _do: str) -> Mapping[str, Any]:
        if not self.is_there:
            raise GatewayUnreachable("a", "here", "no answer")
        kept = {"vm": self.warm, "destination": C, "known_pages": 90, "scanned_pages": 100}
        return {"warming": [kept] if self.warm else []}


@pytest.fixture
async def knowing(store: Store) -> Store:
    """A store that has VMs."""
    needs = Resources(vcpus=1, memory_bytes=1 << 30)
    vms = [Vm(name=name, uuid=name, needs=needs) for name in VMS]
    await store.put_inventory(vms, [], Placement(), [])
    return store


def looks(gateways: Mapping[CloudName, Gateway], store: Store) -> AsyncIterator[None]:
    clients = cast("Mapping[CloudName, GatewayClient]", gateways)
    return warmth(clients, lambda: NOON).perceive(store)


async def known(store: Store) -> list[VmName]:
    return [each.vm for each in (await store.snapshot()).warmth]


async def test_what_was_known_in_an_earlier_life_counts_no_more(knowing: Store) -> None:
    """A move of it would be taken for one that sends next to nothing."""
    await knowing.put_warmth([Warmth(vm=VMS[0], cloud=C, at=NOON, known_share=0.9)])
    gateway = Gateway(VMS[0])
    gateway.warm = None
    await anext(looks({A: gateway}, knowing))
    assert await known(knowing) == []


async def test_what_a_gateway_knew_that_is_gone_counts_no_more_and_others_go_on(
    knowing: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transhume.daemon.senses.WARMTH_SECONDS", 0.0)
    gateways = {A: Gateway(VMS[0]), B: Gateway(VMS[1])}
    look = looks(gateways, knowing)
    await anext(look)
    assert await known(knowing) == VMS
    with capture_logs() as logs:
        gateways[A].is_there = False
        await anext(look)
        await anext(look)
        assert await known(knowing) == VMS[1:]
        gateways[A].is_there = True
        await anext(look)
        assert await known(knowing) == VMS
    assert (told(logs, "warmth_unknown"), told(logs, "warmth_known_again")) == (1, 1)
