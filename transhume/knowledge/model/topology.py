"""What there is to place and where it can be: clouds, hosts, VMs, clusters, links, placements.

Owns the nouns of the federation, without any opinion about them: prices are in `market`, traffic in
`traffic`. Talks to nobody.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from transhume.knowledge.model.names import (
    CloudName,
    ClusterName,
    HostName,
    IpAddress,
    MacAddress,
    VirtualNetworkName,
    VmName,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """An amount of virtual CPUs and memory: a VM's need, or a host's capacity."""

    vcpus: int
    memory_bytes: int

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            vcpus=self.vcpus + other.vcpus, memory_bytes=self.memory_bytes + other.memory_bytes
        )

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(
            vcpus=self.vcpus - other.vcpus, memory_bytes=self.memory_bytes - other.memory_bytes
        )

    def covers(self, need: "Resources") -> bool:
        """Say whether `need` fits into this amount."""
        return self.vcpus >= need.vcpus and self.memory_bytes >= need.memory_bytes


NOTHING = Resources(vcpus=0, memory_bytes=0)


def total(amounts: Iterable[Resources]) -> Resources:
    """Add up amounts of resources; nothing adds up to nothing."""
    return sum(amounts, start=NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """A site under one administration, with a price and a boundary that traffic is billed for crossing."""

    name: CloudName
    provider: str = ""
    """Whose it is, in any words; traffic between clouds of one provider may cost less. Empty: not known."""
    region: str = ""
    revocable: bool = False
    """Its machines may be taken back at any time: spot capacity."""
    networks: frozenset[VirtualNetworkName] | None = None
    """Those of the overlay's networks that it has; None where nobody said."""

    def shares_provider_with(self, other: "Cloud") -> bool:
        """Say whether both are known to be of one provider."""
        return bool(self.provider) and self.provider == other.provider

    def shares_region_with(self, other: "Cloud") -> bool:
        """Say whether both are known to be of one provider, in one of its regions."""
        in_one = bool(self.region) and self.region == other.region
        return in_one and self.shares_provider_with(other)

    def lacks(self, vm: "Vm") -> tuple[VirtualNetworkName, ...]:
        """Return the networks that a VM is on and that aren't here, by name; none where nobody said."""
        return () if self.networks is None else tuple(sorted(vm.networks - self.networks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A hypervisor of a cloud."""

    name: HostName
    cloud: CloudName


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What the path between two clouds carries, in either direction."""

    clouds: frozenset[CloudName]
    bytes_per_second: float
    latency_seconds: float | None = None
    """The round trip between them; None where nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of a VM, with the addresses known to belong to it."""

    mac: MacAddress
    ips: tuple[IpAddress, ...] = ()
    device: str = ""
    """The host's device at its other end, while the VM is where it is; empty where nobody said."""
    network: VirtualNetworkName | None = None
    """Which of the overlay's networks it's on; empty: none of them; None: nobody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """A libvirt domain, wherever it runs."""

    name: VmName
    uuid: str
    needs: Resources
    interfaces: tuple[Interface, ...] = ()
    cluster: ClusterName | None = None
    tags: frozenset[str] = frozenset()
    dirty_bytes_per_second: float | None = None
    """How fast the guest rewrites its memory, where that was measured."""
    disk_bytes: int = 0
    """What those of its disks hold that may be its host's own, where that was asked for."""

    @property
    def networks(self) -> frozenset[VirtualNetworkName]:
        """Those of the overlay's networks that it's known to be on."""
        return frozenset(each.network for each in self.interfaces if each.network)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualCluster:
    """The VMs of one application."""

    name: ClusterName
    vms: tuple[VmName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which host runs each VM."""

    host_of: Mapping[VmName, HostName] = field(default_factory=dict)
