"""The inventory: what a domain's XML says, and how the reports of several hosts become one."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import libvirt
import pytest

from transhume.deployment.model import Deployment, Hypervisor, OverlayNetwork, OverlaySite
from transhume.errors import HypervisorUnreachable
from transhume.knowledge.model import (
    CloudName,
    ClusterName,
    Host,
    HostName,
    Interface,
    IpAddress,
    LastInventory,
    MacAddress,
    Resources,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.monitor.clouds import inventory
from transhume.monitor.clouds.inventory import (
    HostReport,
    LibvirtInventory,
    Namesakes,
    SeenVm,
    merge,
    networks_at,
    parse_domain,
)
from transhume.reach.libvirt import Connections

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20

DOMAIN = """
<domain type='qemu' id='3'>
  <name>vm1</name>
  <uuid>8a2d0000-0000-0000-0000-000000000001</uuid>
  <metadata>
    <transhume:vm xmlns:transhume="https://transhume.dev/xmlns/vm/1"
                  cluster="blast" tags="gdpr, db" ips="10.66.0.11"/>
  </metadata>
  <memory unit='{unit}'>{memory}</memory>
  <vcpu placement='static'>2</vcpu>
  <devices>
    <interface type='bridge'><mac address='52:54:00:7A:00:0b'/><target dev='vnet3'/></interface>
    <interface type='bridge'><mac address='52:54:00:7a:00:0c'/></interface>
  </devices>
</domain>
"""


def deployment(**more: dict[str, tuple[str, ...]]) -> Deployment:
    return Deployment(source="t", clouds=(), hosts=(), hypervisors=(), **more)  # type: ignore[arg-type]


def vm(name: str, cluster: str | None = None) -> Vm:
    needs = Resources(vcpus=1, memory_bytes=96 * MIB)
    return Vm(
        name=VmName(name),
        uuid=name,
        needs=needs,
        cluster=ClusterName(cluster) if cluster else None,
    )


def report(host: str, *running: str, paused: tuple[str, ...] = ()) -> HostReport:
    return HostReport(
        seen=tuple(
            SeenVm(vm=vm(name), host=HostName(host), running=name in running)
            for name in (*running, *paused)
        ),
        total=Resources(vcpus=4, memory_bytes=1024 * MIB),
    )


def test_a_domain_tells_its_addresses_needs_cluster_and_tags() -> None:
    found = parse_domain(DOMAIN.format(unit="KiB", memory=98304))
    assert found == Vm(
        name=VmName("vm1"),
        uuid="8a2d0000-0000-0000-0000-000000000001",
        needs=Resources(vcpus=2, memory_bytes=96 * MIB),
        interfaces=(
            Interface(
                mac=MacAddress("52:54:00:7a:00:0b"),
                ips=(IpAddress("10.66.0.11"),),
                device="vnet3",
            ),
            Interface(mac=MacAddress("52:54:00:7a:00:0c")),
        ),
        cluster=ClusterName("blast"),
        tags=frozenset({"gdpr", "db"}),
    )


@pytest.mark.parametrize(("unit", "memory"), [("bytes", 96 * MIB), ("MiB", 96), ("KiB", 98304)])
def test_memory_is_read_in_every_unit_that_libvirt_writes(unit: str, memory: int) -> None:
    assert parse_domain(DOMAIN.format(unit=unit, memory=memory)).needs.memory_bytes == 96 * MIB


def test_a_domain_without_our_metadata_is_a_vm_like_any_other() -> None:
    found = parse_domain("<domain><name>x</name><uuid>u</uuid><memory>1024</memory></domain>")
    assert found.cluster is None
    assert found.tags == frozenset()
    assert found.needs == Resources(vcpus=1, memory_bytes=MIB)


def test_a_vm_seen_at_two_hosts_is_where_it_runs() -> None:
    """In a live migration it runs at the source and waits, paused, at the destination."""
    reports = {
        HostName("a1"): report("a1", paused=("vm1",)),
        HostName("b1"): report("b1", "vm1"),
    }
    assert merge(reports, deployment(), NOW).placement.host_of == {"vm1": "b1"}


@pytest.mark.parametrize("hosts", [("a1", "b1"), ("b1", "a1")], ids=" ".join)
def test_a_host_that_fell_silent_is_not_believed_against_one_that_answers(
    hosts: tuple[str, str],
) -> None:
    """Its last word was that the VM runs there; the VM has moved since."""
    reports = {HostName(host): report(host, "vm1") for host in hosts}
    silent = [HypervisorUnreachable("a1", "qemu:///a1", "timed out")]
    assert merge(reports, deployment(), NOW, silent).placement.host_of == {"vm1": "b1"}


def namesake(name: str, uuid: str) -> SeenVm:
    return SeenVm(vm=replace(vm(name), uuid=uuid), host=HostName("b1"), running=True)


@pytest.mark.parametrize("first", [True, False])
def test_of_two_vms_under_one_name_the_one_that_was_known_by_it_counts(first: bool) -> None:
    """Else a VM that has moved seems to be where its namesake is, and the wrong one would be moved next."""
    other = HostReport(seen=(namesake("vm1", "other"),), total=None)
    ours = {HostName("c1"): report("c1", "vm1")}
    theirs = {HostName("b1"): other}
    reports = ours | theirs if first else theirs | ours
    found = merge(reports, deployment(), NOW, known={VmName("vm1"): vm("vm1")})
    assert [(each.name, each.uuid) for each in found.vms] == [("vm1", "vm1")]
    assert found.placement.host_of == {"vm1": "c1"}
    assert found.namesakes == (
        Namesakes(name=VmName("vm1"), hosts=(HostName("c1"), HostName("b1"))),
    )


def test_a_vm_that_was_made_anew_elsewhere_while_its_host_is_silent_counts() -> None:
    reports = {
        HostName("a1"): report("a1", "vm1"),
        HostName("b1"): HostReport(seen=(namesake("vm1", "anew"),), total=None),
    }
    silent = [HypervisorUnreachable("a1", "qemu:///a1", "timed out")]
    found = merge(reports, deployment(), NOW, silent, {VmName("vm1"): vm("vm1")})
    assert (found.placement.host_of, found.namesakes) == ({"vm1": "b1"}, ())


def test_a_namesake_does_not_become_the_vm_whose_host_falls_silent() -> None:
    """Once that answers again, the VM would be left out for good."""
    reports = {
        HostName("a1"): report("a1", "vm1"),
        HostName("b1"): HostReport(seen=(namesake("vm1", "other"),), total=None),
    }
    known = {VmName("vm1"): vm("vm1")}
    silent = [HypervisorUnreachable("a1", "qemu:///a1", "timed out")]
    both = merge(reports, deployment(), NOW, known=known)
    theirs = [HypervisorUnreachable("b1", "qemu:///b1", "timed out")]
    ours = {HostName("a1"): reports[HostName("a1")]}
    alone = merge(ours, deployment(), NOW, theirs, known, strangers=both.strangers)
    found = merge(reports, deployment(), NOW, silent, known, strangers=alone.strangers)
    assert (found.placement.host_of, found.namesakes) == ({"vm1": "a1"}, both.namesakes)
    del reports[HostName("a1")]
    left = merge(reports, deployment(), NOW, known=known, strangers=found.strangers)
    assert (left.placement.host_of, left.strangers) == ({"vm1": "b1"}, frozenset())


class Ailing:
    """Connections to two hosts, the first of which is reached and answers with an error."""

    hosts = (HostName("a1"), HostName("b1"))

    def hypervisor(self, host: HostName) -> Hypervisor:
        return Hypervisor(host=host, uri=host, peer_uri=host)

    async def call(self, host: HostName, _what: object) -> tuple[tuple[SeenVm, ...], Resources]:
        if host == "a1":
            raise libvirt.libvirtError("cannot acquire state change lock")
        return report("b1", "vm1").seen, Resources(vcpus=4, memory_bytes=1024 * MIB)


async def test_a_host_that_ails_does_not_hide_the_others() -> None:
    source = LibvirtInventory(cast("Connections", Ailing()), deployment())
    read = await source.read(NOW, LastInventory())
    assert read.placement.host_of == {"vm1": "b1"}
    assert [error.host for error in read.silent] == ["a1"]


class Stuck(Ailing):
    """The first host takes a question, and answers when it may."""

    def __init__(self) -> None:
        self.questions = 0
        self.may_answer = asyncio.Event()

    async def call(self, host: HostName, what: object) -> tuple[tuple[SeenVm, ...], Resources]:
        if host == "a1":
            self.questions += 1
            await self.may_answer.wait()
            return report("a1", "vm2").seen, Resources(vcpus=4, memory_bytes=1024 * MIB)
        return await super().call(host, what)


async def test_a_host_that_is_stuck_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its libvirtd lives, and waits for a QEMU: a call that is never answered, and not broken off either."""
    monkeypatch.setattr(inventory, "ANSWER_SECONDS", 0.01)
    connections = Stuck()
    source = LibvirtInventory(cast("Connections", connections), deployment())
    for _ in range(3):
        read = await source.read(NOW, LastInventory())
        assert read.placement.host_of == {"vm1": "b1"}
        assert [error.host for error in read.silent] == ["a1"]
    assert connections.questions == 1  # each would keep a thread
    connections.may_answer.set()
    await asyncio.sleep(0)
    read = await source.read(NOW, LastInventory())
    assert (read.placement.host_of, read.silent) == ({"vm1": "b1", "vm2": "a1"}, ())
    assert connections.questions == 2  # what it said to the first is of long ago


def test_an_awaited_vm_already_takes_room_at_its_destination() -> None:
    reports = {
        HostName("a1"): report("a1", "vm1"),
        HostName("b1"): report("b1", paused=("vm1",)),
    }
    free = {c.host: c.free.vcpus for c in merge(reports, deployment(), NOW).capacity}
    assert free == {"a1": 3, "b1": 3}


def test_the_deployment_file_names_clusters_and_adds_tags() -> None:
    labels = deployment(
        clusters={ClusterName("web"): ("vm*",)},  # type: ignore[dict-item]
        tags={"front": ("vm1",)},
    )
    found = merge({HostName("a1"): report("a1", "vm1", "vm2")}, labels, NOW)
    assert [(v.cluster, v.tags) for v in found.vms] == [("web", {"front"}), ("web", frozenset())]
    assert found.clusters[0].vms == ("vm1", "vm2")


def test_a_hostile_domain_xml_is_no_way_to_read_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    xml = (
        f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{secret}">]>'
        "<domain><name>&x;</name><uuid>u</uuid></domain>"
    )
    with pytest.raises(Exception, match="undefined entity"):
        parse_domain(xml)


def test_an_interface_is_on_the_network_whose_bridge_it_is_on() -> None:
    on_bridge = DOMAIN.replace("<target dev", "<source bridge='br1'/><target dev")
    xml = on_bridge.format(unit="KiB", memory=98304)
    sites = [
        OverlaySite(name=cloud, bridge=bridge, underlay="wan0", vtep="192.0.2.1")
        for cloud, bridge in (("a", "br1"), ("b", "br0"))
    ]
    described = replace(
        deployment(),
        hosts=tuple(Host(name=HostName(f"{c}1"), cloud=CloudName(c)) for c in "ab"),
        networks=(OverlayNetwork(name=VirtualNetworkName("green"), vni=67, sites=tuple(sites)),),
    )
    networks = [networks_at(HostName(host), described) for host in ("a1", "b1")]
    told = [[each.network for each in parse_domain(xml, known).interfaces] for known in networks]
    assert told == [["green", ""], ["", ""]]
    assert networks_at(HostName("a1"), deployment()) is None
