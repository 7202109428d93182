"""More VMs leave a host at once than libvirtd has room for calls of one connection: five, by default."""

import asyncio
import os

import pytest

from transhume.deployment.loader import load_deployment
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.migration.transport import Direct
from transhume.knowledge.model import HostName, VmName
from transhume.lab.lab import Lab
from transhume.lab.spec import plan_lab
from transhume.reach.libvirt import Connections

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

LAB = plan_lab(clouds=2, vms=6, wan_bytes_per_second=40_000_000)
A1, B1 = HostName("a1"), HostName("b1")
SLOWLY = MigrationOptions(bytes_per_second=1 << 20)


class Leaving:
    """A VM on its way, as far as its host tells of it."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()

    def heard(self, sample: JobSample) -> None:
        if sample.bytes_sent > 0:
            self.flowing.set()


async def test_each_of_many_that_leave_a_host_at_once_is_watched_and_can_be_stopped(
    lab: Lab,
) -> None:
    connections = Connections(load_deployment(lab.deployment).hypervisors)
    hosts = LibvirtHosts(connections, Direct())
    vms = [VmName(guest.name) for guest in lab.spec.guests]
    leaving = {vm: Leaving() for vm in vms}
    moves = [
        asyncio.create_task(hosts.migrate(vm, A1, B1, leaving[vm].heard, SLOWLY)) for vm in vms
    ]
    try:
        async with asyncio.timeout(180):
            await asyncio.gather(*(each.flowing.wait() for each in leaving.values()))
        assert not any(move.done() for move in moves)
    finally:
        for move in moves:
            move.cancel()
        ended = await asyncio.gather(*moves, return_exceptions=True)
        connections.close()
    assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    assert {cloud.name: set(cloud.guests) for cloud in lab.status()} == {"a": set(vms), "b": set()}
