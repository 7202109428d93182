"""Two VMs under one name: the one that was known by it first stays it, and the log names the other once."""

from dataclasses import replace
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.contract.daemon_stage import ONE_SERVER
from tests.contract.decided import NOON
from transhume.daemon import senses
from transhume.deployment.model import Deployment, Hypervisor
from transhume.knowledge.model import Cloud, CloudName, Host, HostName, Resources, Vm, VmName
from transhume.knowledge.store import Store
from transhume.monitor.clouds.inventory import LibvirtInventory, SeenVm
from transhume.reach.libvirt import Connections

pytestmark = ONE_SERVER

A1, B1, C1 = map(HostName, ("a1", "b1", "c1"))
SMALL, LARGE = (Resources(vcpus=count, memory_bytes=count << 30) for count in (1, 4))
OURS = Vm(name=VmName("web1"), uuid="ours", needs=SMALL)
THEIRS = replace(OURS, uuid="theirs")


class Hosts:
    """Connections to three hosts, on which VMs run."""

    hosts = (A1, B1, C1)

    def __init__(self) -> None:
        self.runs = {A1: OURS}

    def hypervisor(self, host: HostName) -> Hypervisor:
        return Hypervisor(host=host, uri=host, peer_uri=host)

    async def call(self, host: HostName, _what: object) -> tuple[tuple[SeenVm, ...], Resources]:
        found = self.runs.get(host)
        return (SeenVm(vm=found, host=host, running=True),) if found else (), LARGE


async def test_a_vm_that_moved_is_not_taken_for_its_namesake(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senses, "INVENTORY_SECONDS", 0)
    await store.put_federation(
        [Cloud(name=CloudName("a"))],
        [Host(name=each, cloud=CloudName("a")) for each in Hosts.hosts],
        [],
    )
    hosts = Hosts()
    deployment = Deployment(source="t", clouds=(), hosts=(), hypervisors=())
    source = LibvirtInventory(cast("Connections", hosts), deployment)
    looks = senses.inventory(source, lambda: NOON).perceive(store)
    with capture_logs() as told:
        await anext(looks)
        for runs in ({A1: OURS, B1: THEIRS}, {B1: THEIRS, C1: OURS}):
            hosts.runs = runs
            for _ in range(2):
                await anext(looks)
                (at,) = (host for host, vm in runs.items() if vm is OURS)
                seen = await store.snapshot()
                assert (seen.vms[OURS.name].uuid, seen.placement.host_of) == ("ours", {"web1": at})
    assert [(each["event"], each["taken"], each["left_out"]) for each in told] == [
        ("vms_share_a_name", "a1", ("b1",)),
        ("vms_share_a_name", "c1", ("b1",)),
    ]
