"""What a lab is made of: clouds, VMs, virtual clusters, who talks to whom, and every name and address.

Pure: the same specification always gives the same lab. Names tell nothing about groups, which have to be found
in the packets: the clusters' VMs are interleaved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_lowercase

from transhume.errors import UsageError
from transhume.knowledge.model import CloudName, ClusterName, IpAddress, MacAddress, VmName

STATE = Path("/run/transhume-lab")
RECORD = "lab.json"
"""In the state: what was specified, and the proof that the directory is a lab's."""
PREFIX = "thlab-"
"""Every network namespace of a lab begins like this."""
BRIDGE, UNDERLAY = "br0", "wan0"
EDGE, OUTSIDE, WAN = f"{PREFIX}edge", f"{PREFIX}out", f"{PREFIX}wan"
EDGE_VTEP = IpAddress("172.31.66.100")
GATEWAY, GATEWAY_MAC = IpAddress("10.66.0.1"), MacAddress("52:54:00:7c:00:01")
GATEWAY6 = IpAddress("fd66::1")
EDGE_OUTER, OUTSIDE_ADDRESS = IpAddress("172.31.67.1"), IpAddress("172.31.67.2")
UNDERLAY_MTU = 1600
"""Room for the tunnels' headers: the guests' frames of 1500 bytes pass whole."""
VNI = 66

CLUSTER_NAMES = ("blast", "web", "db", "cache", "queue", "batch")
HIGH_BYTES_PER_SECOND, LOW_BYTES_PER_SECOND = 400_000, 2_000
LEAST_MEMORY_MIB, MOST_MEMORY_MIB = 96, 512
IMAGE_MIB = 2048
"""The size of the file system that disks begin with: mostly room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSpec:
    """A cloud with one host."""

    name: CloudName
    number: int
    vcpu_dollars: float = 0.04

    @property
    def host(self) -> str:
        """The name of its only host."""
        return f"{self.name}1"

    @property
    def netns(self) -> str:
        """Its network namespace."""
        return f"{PREFIX}{self.name}"

    @property
    def address(self) -> IpAddress:
        """Its address on the WAN, for tunnels and migrations."""
        return IpAddress(f"172.31.66.{self.number}")

    @property
    def gateway(self) -> str:
        """Where its gateway listens for the other clouds'."""
        return f"{self.address}:7443"

    @property
    def peer_uri(self) -> str:
        """How the other clouds' libvirt daemons reach this one's."""
        return f"qemu+tcp://{self.address}/system"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpec:
    """A guest's disk. It begins as the image that every cloud has, and the guest reads all of that at boot.

    Raises:
        UsageError: it is smaller than the image.
    """

    size_mib: int = IMAGE_MIB
    writable: bool = True
    """False: the image itself, which need not be moved with the guest."""
    backed: bool = True
    """True: a qcow2 file over the image. False: a copy of the image, which doesn't refer to it."""
    own_mib: int = 8
    """Files that only this guest has, on a disk that is writable."""
    own_bytes_per_second: int = 100_000
    """How fast it rewrites them."""

    def __post_init__(self) -> None:
        if self.size_mib < IMAGE_MIB:
            raise UsageError(f"a disk of {self.size_mib} MiB: the image takes {IMAGE_MIB}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestSpec:
    """A VM, where it starts and what it does."""

    number: int
    cluster: ClusterName
    cloud: CloudName
    tags: tuple[str, ...] = ()
    sends: Mapping[IpAddress, int] = field(default_factory=dict)
    """Bytes per second by destination."""
    memory_mib: int = 112
    shared_memory: bool = True
    """In a memfd, which who may look into the QEMU process can read."""
    working_set_mib: int = 16
    """The same in all guests at first."""
    dirty_bytes_per_second: int = 100_000
    """How fast the working set is rewritten, with what each guest has of its own."""
    unique_mib: int = 0
    """Data that only this guest has from the beginning, half random and half like text, and never changes."""
    writer_mib: int = 32
    writer_bytes_per_second: int = 0
    """How much of a random buffer is made dirty, by a few bytes in each page; 0: there is no such buffer."""
    disk: DiskSpec | None = None
    speaks_ipv6: bool = False

    @property
    def name(self) -> VmName:
        """Its libvirt domain and host name."""
        return VmName(f"vm{self.number}")

    @property
    def mac(self) -> MacAddress:
        """Its only interface's address."""
        return MacAddress(f"52:54:00:7a:00:{self.number:02x}")

    @property
    def ip(self) -> IpAddress:
        """Its address in the overlay."""
        return address_of(self.number)

    @property
    def ip6(self) -> IpAddress | None:
        """Its address in the overlay's IPv6, if it speaks that."""
        return IpAddress(f"fd66::{10 + self.number}") if self.speaks_ipv6 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """A whole lab."""

    clouds: tuple[CloudSpec, ...]
    guests: tuple[GuestSpec, ...]
    wan_bytes_per_second: float = 12_500_000
    wan_delay_seconds: float = 0.0
    """From any site to any other, one way."""
    gateways: bool = False
    """Whether a gateway runs at each cloud and carries migrations."""
    agents: bool = False
    """Whether an agent runs at each site and looks after its part of the overlay."""

    def cloud(self, name: CloudName) -> CloudSpec:
        """Return a cloud by name."""
        return next(cloud for cloud in self.clouds if cloud.name == name)

    def guest(self, name: str) -> GuestSpec:
        """Return a guest by name.

        Raises:
            UsageError: there is none of that name.
        """
        for guest in self.guests:
            if guest.name == name:
                return guest
        names = ", ".join(guest.name for guest in self.guests)
        raise UsageError(f"the lab has no VM {name}; it has {names}")


def address_of(number: int) -> IpAddress:
    """Return the overlay address of the guest with this number."""
    return IpAddress(f"10.66.0.{10 + number}")


def plan_lab(
    *,
    clouds: int = 3,
    vms: int = 6,
    clusters: int = 2,
    wan_bytes_per_second: float = 12_500_000,
    place: Mapping[str, str] | None = None,
    round_robin: bool = False,
    working_set_mib: int = 16,
    dirty_bytes_per_second: int = 100_000,
    wan_delay_seconds: float = 0.0,
    memory_mib: int = 112,
    disk: DiskSpec | None = None,
    gateways: bool = False,
    agents: bool = False,
) -> LabSpec:
    """Specify a lab: `vms` VMs dealt out to `clusters`, all in the first cloud unless told otherwise.

    Raises:
        UsageError: the numbers make no lab, or `place` names what isn't in it.
    """
    _check_numbers(clouds, vms, clusters, memory_mib)
    sites = [
        CloudSpec(name=CloudName(ascii_lowercase[n]), number=n + 1, vcpu_dollars=0.04 + 0.01 * n)
        for n in range(clouds)
    ]
    cluster_of = {n: CLUSTER_NAMES[(n - 1) % clusters] for n in range(1, vms + 1)}
    where = {
        f"vm{n}": sites[(n - 1) % clouds if round_robin else 0].name for n in range(1, vms + 1)
    }
    for vm, cloud in (place or {}).items():
        if vm not in where or cloud not in {site.name for site in sites}:
            raise UsageError(f"can't place {vm} in cloud {cloud}: the lab doesn't have both")
        where[vm] = CloudName(cloud)
    guests = tuple(
        GuestSpec(
            number=n,
            cluster=ClusterName(cluster_of[n]),
            cloud=where[f"vm{n}"],
            sends=_traffic(n, cluster_of),
            memory_mib=memory_mib,
            working_set_mib=working_set_mib,
            dirty_bytes_per_second=dirty_bytes_per_second,
            disk=disk,
        )
        for n in cluster_of
    )
    return LabSpec(
        clouds=tuple(sites),
        guests=guests,
        wan_bytes_per_second=wan_bytes_per_second,
        wan_delay_seconds=wan_delay_seconds,
        gateways=gateways,
        agents=agents,
    )


def _check_numbers(clouds: int, vms: int, clusters: int, memory_mib: int) -> None:
    if not LEAST_MEMORY_MIB <= memory_mib <= MOST_MEMORY_MIB:
        raise UsageError(
            f"{memory_mib} MiB of memory: a guest has {LEAST_MEMORY_MIB} to {MOST_MEMORY_MIB}"
        )
    if not 1 <= clouds <= len(ascii_lowercase):
        raise UsageError(f"{clouds} clouds: a lab has 1 to {len(ascii_lowercase)}")
    if not 1 <= vms <= 60:
        raise UsageError(f"{vms} VMs: a lab has 1 to 60")
    if not 1 <= clusters <= min(vms, len(CLUSTER_NAMES)):
        raise UsageError(f"{clusters} clusters: {vms} VMs make 1 to {min(vms, len(CLUSTER_NAMES))}")


def _traffic(sender: int, cluster_of: Mapping[int, str]) -> Mapping[IpAddress, int]:
    """Share a high rate among the mates in the cluster, and whisper to one VM of another."""
    mates = [n for n, c in cluster_of.items() if c == cluster_of[sender] and n != sender]
    others = [n for n, c in cluster_of.items() if c != cluster_of[sender]]
    sends = {address_of(n): HIGH_BYTES_PER_SECOND // len(mates) for n in mates}
    if others:
        sends[address_of(others[sender % len(others)])] = LOW_BYTES_PER_SECOND
    return sends
