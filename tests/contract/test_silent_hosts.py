"""What is known of a host that gives no answer stays, also for a daemon that has just begun."""

from dataclasses import replace
from typing import cast

import pytest

from tests.contract import decided
from tests.contract.daemon_stage import ONE_SERVER
from tests.contract.decided import NOON
from transhume.daemon.senses import inventory
from transhume.deployment.model import Deployment, Hypervisor
from transhume.errors import HypervisorUnreachable
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    Host,
    HostName,
    JournalRecord,
    Phase,
    Placement,
    PlanStatus,
    Resources,
    Vm,
    VmName,
)
from transhume.knowledge.store import Store
from transhume.monitor.clouds.inventory import LibvirtInventory, SeenVm
from transhume.reach.libvirt import Connections

pytestmark = ONE_SERVER

A1, B1 = HostName("a1"), HostName("b1")
SMALL, LARGE = (Resources(vcpus=count, memory_bytes=count << 30) for count in (1, 4))
STEP = replace(
    decided.STEP,
    source=A1,
    destination=B1,
    source_cloud=CloudName("a"),
    destination_cloud=CloudName("b"),
)
PLAN = replace(decided.PLAN, steps=(STEP,))


def vm(name: str) -> Vm:
    return Vm(name=VmName(name), uuid=name, needs=SMALL)


class Hosts:
    """Connections to two hosts, one of which may be silent."""

    hosts = (A1, B1)

    def __init__(self, silent: HostName, **running: HostName) -> None:
        self._silent = silent
        self._running = running

    def hypervisor(self, host: HostName) -> Hypervisor:
        return Hypervisor(host=host, uri=host, peer_uri=host)

    async def call(self, host: HostName, _what: object) -> tuple[tuple[SeenVm, ...], Resources]:
        if host == self._silent:
            raise HypervisorUnreachable(host, host, "timed out")
        seen = (
            SeenVm(vm=vm(name), host=host, running=True)
            for name, at in self._running.items()
            if at == host
        )
        return tuple(seen), LARGE


async def look(store: Store, hosts: Hosts) -> None:
    """Read the inventory once, as a daemon does that has just begun."""
    deployment = Deployment(source="t", clouds=(), hosts=(), hypervisors=())
    source = LibvirtInventory(cast("Connections", hosts), deployment)
    await anext(inventory(source, lambda: NOON).perceive(store))


@pytest.fixture
async def store(store: Store) -> Store:
    """v1 is at a1, v2 at b1."""
    clouds = [Cloud(name=CloudName(name)) for name in ("a", "b")]
    hosts = [Host(name=host, cloud=CloudName(host[0])) for host in (A1, B1)]
    await store.put_federation(clouds, hosts, [])
    placement = Placement(host_of={VmName("v1"): A1, VmName("v2"): B1})
    capacity = [
        CapacityReport(host=host, at=NOON, total=LARGE, free=LARGE - SMALL) for host in (A1, B1)
    ]
    await store.put_inventory([vm("v1"), vm("v2")], [], placement, capacity)
    return store


async def test_vms_of_a_host_that_is_silent_when_a_daemon_begins_stay(store: Store) -> None:
    await look(store, Hosts(silent=B1, v1=A1))
    seen = await store.snapshot()
    assert seen.placement.host_of == {"v1": A1, "v2": B1}
    assert seen.capacity[B1] == CapacityReport(
        host=B1, at=NOON, total=LARGE, free=LARGE - SMALL, silent=True
    )
    assert seen.silent_hosts() == {B1}
    await look(store, Hosts(silent=HostName("none"), v1=A1, v2=B1))
    assert (await store.snapshot()).silent_hosts() == frozenset()


async def test_a_host_that_answers_knows_better(store: Store) -> None:
    await look(store, Hosts(silent=B1, v1=A1, v2=A1))
    assert (await store.snapshot()).placement.host_of == {"v1": A1, "v2": A1}


async def test_a_vm_that_has_moved_to_a_host_stays_when_that_falls_silent(
    store: Store, token: int
) -> None:
    await journal(store, token, Phase.INTENDED, Phase.COMMITTED)
    for _ in range(2):
        await look(store, Hosts(silent=B1))
        assert (await store.snapshot()).placement.host_of == {"v1": B1, "v2": B1}


async def test_a_vm_on_its_way_from_a_silent_host_stays_until_its_move_is_over(
    store: Store, token: int
) -> None:
    await journal(store, token, Phase.INTENDED)
    await look(store, Hosts(silent=A1, v2=B1))
    assert (await store.snapshot()).placement.host_of == {"v1": B1, "v2": B1}
    await journal(store, token, Phase.FAILED)
    assert (await store.snapshot()).placement.host_of == {"v1": A1, "v2": B1}


async def journal(store: Store, token: int, *phases: Phase) -> None:
    await store.put_plan(PLAN, PlanStatus.EXECUTING, token)
    for phase in phases:
        record = JournalRecord(plan=PLAN.id, step=STEP.id, vm=STEP.vm, phase=phase, at=NOON)
        await store.append_journal(record, token)


async def test_a_host_that_nobody_ever_heard_of_is_not_made_up(store: Store) -> None:
    await store.put_inventory([], [], Placement(), [])
    await look(store, Hosts(silent=B1, v1=A1))
    seen = await store.snapshot()
    assert seen.placement.host_of == {"v1": A1}
    assert seen.capacity.keys() == {A1}
