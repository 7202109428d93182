"""What the hypervisors run and could run: domains, addresses, needs, free capacity, read from libvirt.

A VM's virtual cluster and tags stand in its domain metadata, so that they travel with it:

    <transhume:vm xmlns:transhume="https://transhume.dev/xmlns/vm/1" cluster="blast" tags="gdpr,db"/>

or, by patterns of names, in the deployment file, which wins. A host that doesn't answer is told, and what
is known of it stays as it is, whoever has learnt it: silence is no proof of absence. VMs are told apart by
their names: of two that have the same one, one is left out, and that is told.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from transhume.deployment.model import Deployment
from transhume.errors import HypervisorUnreachable
from transhume.knowledge.model import (
    CapacityReport,
    ClusterName,
    HostName,
    LastInventory,
    Placement,
    Resources,
    VirtualCluster,
    VirtualNetworkName,
    Vm,
    VmName,
    total,
)
from transhume.reach.domains import interfaces_in, told_in, words
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

_NONE = VirtualNetworkName("")
ANSWER_SECONDS = 30.0
"""How long a host may take to tell of its VMs.

libvirt's keep-alive finds out what is dead, and not what is stuck: a libvirtd that waits for a QEMU or a disk
answers that, and nothing else.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenVm:
    """A VM at a host; `running` is False for one that is paused there, as an incoming one is."""

    vm: Vm
    host: HostName
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What one host told; `total` is None where that isn't known of a host that gives no answer."""

    seen: tuple[SeenVm, ...]
    total: Resources | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Namesakes:
    """Several VMs under one name: hypervisors that answer tell of different UUIDs."""

    name: VmName
    hosts: tuple[HostName, ...]
    """The first is where the one is that is taken for it; the others are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What all hosts told, as one: those that answered now, and the silent ones before."""

    vms: tuple[Vm, ...]
    clusters: tuple[VirtualCluster, ...]
    placement: Placement
    capacity: tuple[CapacityReport, ...]
    silent: tuple[HypervisorUnreachable, ...]
    namesakes: tuple[Namesakes, ...]
    strangers: frozenset[str]
    """The UUIDs of VMs that were left out, as others have their names."""


class LibvirtInventory:
    """The inventory of a deployment's hosts."""

    def __init__(self, connections: Connections, deployment: Deployment) -> None:
        self._connections = connections
        self._deployment = deployment
        self._asked: dict[HostName, asyncio.Future[tuple[tuple[SeenVm, ...], Resources]]] = {}
        self._strangers: frozenset[str] = frozenset()

    async def read(self, now: datetime, known: LastInventory) -> Inventory:
        """Ask every host; what was `known` before stays, where one gives no answer."""
        hosts = self._connections.hosts
        answers = await asyncio.gather(*map(self._ask, hosts), return_exceptions=True)
        reports, silent = {}, {}
        for host, answer in zip(hosts, answers, strict=True):
            if isinstance(answer, HostReport):
                reports[host] = answer
            elif isinstance(answer, HypervisorUnreachable):
                silent[host] = answer
            else:
                raise answer
        reports |= {host: _recalled(host, known) for host in silent}
        read = merge(
            reports,
            self._deployment,
            now,
            silent.values(),
            known.vms,
            strangers=self._strangers,
        )
        self._strangers = read.strangers
        return read

    async def _ask(self, host: HostName) -> HostReport:
        import libvirt

        hypervisor = self._connections.hypervisor(host)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                seen, has = await self._answer(host)
        except libvirt.libvirtError as error:  # one that ails must not hide the others
            raise HypervisorUnreachable(host, hypervisor.uri, str(error)) from error
        except TimeoutError as error:
            why = f"no answer within {ANSWER_SECONDS:.0f} s"
            raise HypervisorUnreachable(host, hypervisor.uri, why) from error
        return HostReport(seen=seen, total=hypervisor.capacity or has)

    async def _answer(self, host: HostName) -> tuple[tuple[SeenVm, ...], Resources]:
        """Ask a host, unless it still owes an answer: each question that is stuck keeps a thread."""
        stuck = self._asked.get(host)
        if stuck is not None and not stuck.done():
            raise TimeoutError
        networks = networks_at(host, self._deployment)
        self._asked[host] = asyncio.ensure_future(
            self._connections.call(host, lambda c: (_domains(c, host, networks), _total(c)))
        )
        return await asyncio.shield(self._asked[host])


def _recalled(host: HostName, known: LastInventory) -> HostReport:
    report = known.capacity.get(host)
    return HostReport(
        seen=tuple(
            SeenVm(vm=known.vms[vm], host=host, running=True)
            for vm, at in known.placement.host_of.items()
            if at == host and vm in known.vms
        ),
        total=report.total if report else None,
    )


def merge(
    reports: dict[HostName, HostReport],
    deployment: Deployment,
    now: datetime,
    silent: Iterable[HypervisorUnreachable] = (),
    known: Mapping[VmName, Vm] | None = None,
    *,
    strangers: frozenset[str] = frozenset(),
) -> Inventory:
    """Join the hosts' reports: a VM seen at two of them is where it runs, not where it is awaited.

    A host that fell silent may have lost the VM since: one that answers is believed rather. Of several under
    one name it's the VM that was `known` by it, wherever that is now; `strangers`, by their UUIDs, were left
    out before, and don't become it because its host falls silent.
    """
    silent, known = tuple(silent), known or {}
    quiet = {error.host for error in silent}
    sights: dict[VmName, list[SeenVm]] = {}
    for report in reports.values():
        for seen in report.seen:
            sights.setdefault(seen.vm.name, []).append(seen)
    found = {
        name: _likeliest(seen, quiet, known.get(name), strangers) for name, seen in sights.items()
    }
    others = {name: list(_others(seen, sights[name], quiet)) for name, seen in found.items()}
    new = {seen.vm.uuid for namesakes in others.values() for seen in namesakes}
    taken = {seen.vm.uuid for seen in found.values()}
    vms = tuple(_labelled(found[name].vm, deployment) for name in sorted(found))
    return Inventory(
        vms=vms,
        clusters=_clusters(vms),
        placement=Placement(host_of={name: seen.host for name, seen in found.items()}),
        capacity=tuple(
            CapacityReport(
                host=host,
                at=now,
                total=report.total,
                free=report.total - total(seen.vm.needs for seen in report.seen),
                silent=host in quiet,
            )
            for host, report in reports.items()
            if report.total is not None
        ),
        silent=silent,
        namesakes=tuple(
            Namesakes(name=name, hosts=(found[name].host, *(seen.host for seen in namesakes)))
            for name, namesakes in sorted(others.items())
            if namesakes
        ),
        strangers=frozenset(new | strangers - taken if quiet else new),
    )


def _likeliest(
    sights: list[SeenVm], quiet: Collection[str], known: Vm | None, strangers: Collection[str]
) -> SeenVm:
    """Return the sight of a name that says where its VM is."""
    answered = {seen.vm.uuid for seen in sights if seen.host not in quiet}.difference(strangers)
    candidates = [seen for seen in sights if not answered or seen.vm.uuid in answered]
    uuids = {seen.vm.uuid for seen in candidates}
    if known is not None and known.uuid in uuids:
        candidates = [seen for seen in candidates if seen.vm.uuid == known.uuid]
    return max(candidates, key=lambda seen: (seen.running, seen.host not in quiet))


def _others(taken: SeenVm, sights: list[SeenVm], quiet: Collection[str]) -> Iterator[SeenVm]:
    """Yield the sights of other VMs that have the name of the one that is taken for it."""
    for seen in sights:
        if seen.vm.uuid != taken.vm.uuid and seen.host not in quiet:
            yield seen


def _labelled(vm: Vm, deployment: Deployment) -> Vm:
    cluster = next(
        (name for name, patterns in deployment.clusters.items() if _matches(vm.name, patterns)),
        vm.cluster,
    )
    tags = {tag for tag, patterns in deployment.tags.items() if _matches(vm.name, patterns)}
    return replace(vm, cluster=cluster, tags=vm.tags | tags)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _clusters(vms: Iterable[Vm]) -> tuple[VirtualCluster, ...]:
    members: dict[ClusterName, list[VmName]] = {}
    for vm in vms:
        if vm.cluster is not None:
            members.setdefault(vm.cluster, []).append(vm.name)
    return tuple(VirtualCluster(name=name, vms=tuple(vms)) for name, vms in members.items())


def networks_at(host: HostName, deployment: Deployment) -> dict[str, VirtualNetworkName] | None:
    """Return the overlay's networks by their bridges at a host; None where there is no overlay."""
    if not deployment.networks:
        return None
    cloud = next((each.cloud for each in deployment.hosts if each.name == host), None)
    return {
        site.bridge: network.name
        for network in deployment.networks
        for site in network.sites
        if site.name == cloud
    }


def _total(connection: "libvirt.virConnect") -> Resources:
    _model, memory_mib, cpus, *_ = connection.getInfo()
    return Resources(vcpus=int(cpus), memory_bytes=int(memory_mib) << 20)


def _domains(
    connection: "libvirt.virConnect",
    host: HostName,
    networks: Mapping[str, VirtualNetworkName] | None,
) -> tuple[SeenVm, ...]:
    import libvirt

    seen = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            state, _reason = domain.state()
            vm = parse_domain(domain.XMLDesc(), networks)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                continue  # it went between the listing and the question
            raise
        running = state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED)
        seen.append(SeenVm(vm=vm, host=host, running=running))
    return tuple(seen)


def parse_domain(xml: str, networks: Mapping[str, VirtualNetworkName] | None = None) -> Vm:
    """Read a VM from its libvirt domain XML, with the overlay's `networks` by their bridges there."""
    domain = ElementTree.fromstring(xml)
    told = told_in(domain)
    return Vm(
        name=VmName(domain.findtext("name", "")),
        uuid=domain.findtext("uuid", ""),
        needs=Resources(
            vcpus=int(domain.findtext("vcpu", "1")),
            memory_bytes=_memory_bytes(domain.find("memory")),
        ),
        interfaces=tuple(
            interface
            if networks is None
            else replace(interface, network=networks.get(bridge or "", _NONE))
            for interface, bridge in interfaces_in(domain)
        ),
        cluster=ClusterName(told["cluster"]) if told.get("cluster") else None,
        tags=frozenset(words(told.get("tags", ""))),
    )


def _memory_bytes(element: ElementTree.Element | None) -> int:
    if element is None or element.text is None:
        return 0
    scale = {"b": 1, "bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return int(element.text) * scale.get(element.attrib.get("unit", "KiB"), 1 << 10)
