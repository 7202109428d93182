"""How to reach the federation: what an operator writes in `transhume.yaml`, as frozen records.

Owns addresses and paths (libvirt URIs, bridges, feeds), which the model of the knowledge knows nothing of.
"""

import posixpath
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from transhume.knowledge.model import (
    ONLY_NETWORK,
    Cloud,
    CloudName,
    ClusterName,
    Host,
    HostName,
    Interface,
    Link,
    Resources,
    VirtualNetworkName,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypervisor:
    """How to talk to a host's libvirt daemon, and how its peers do."""

    host: HostName
    uri: str
    """From here: `qemu+unix:///system?socket=…`, `qemu+tls://…`, `qemu+ssh://…`."""
    peer_uri: str
    """From the other hypervisors, for peer-to-peer migration."""
    capacity: Resources | None = None
    """What we may use of it; None: all that libvirt says it has."""


class CaptureMethod(StrEnum):
    """How frames are seen."""

    AUTO = "auto"
    """The first of the others that works."""
    TCX = "tcx"
    """A program in the kernel adds them up; the kernel has to be 6.6 or later."""
    CLSACT = "clsact"
    """The same program, attached the way that older kernels know (5.11 and later)."""
    RING = "ring"
    """Each frame's headers come to us through shared memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePoint:
    """Where to listen on a host: interfaces by shell pattern, in a network namespace where there is one."""

    host: HostName
    interfaces: tuple[str, ...] = ("vnet*",)
    netns: str | None = None
    remote: bool = False
    """True where `transhume capture` runs on that host; the daemon listens at the others itself."""
    method: CaptureMethod = CaptureMethod.AUTO
    cpu_budget: float = 0.2
    """The share of one processor that capture at the host may take; what is over it is sampled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardPoint:
    """One site's end of the encrypted paths."""

    identity: Path
    """The folder of the site's certificate."""
    key: Path
    endpoints: tuple[str, ...] = ()
    port: int = 51820
    relays: bool = True


_HALF_OF_ALL_NUMBERS = 1 << 23


def detour_of(vni: int) -> int:
    """Return the second number of a network, under which nothing is sent on; it is the other half's."""
    return vni ^ _HALF_OF_ALL_NUMBERS


IPV4_GATEWAYS = 1 << 16
"""So many networks' gateways have IPv4 addresses of their own towards a host: by the number, modulo this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlaySite:
    """A bridge that is part of one of the overlay's networks: a cloud's, or a gateway's."""

    name: str
    """The cloud's name, or the gateway's own."""
    bridge: str
    underlay: str
    """The device that carries the tunnels."""
    vtep: str
    """The address of the tunnels' end on `underlay`."""
    netns: str | None = None
    fixed: tuple[Interface, ...] = ()
    """What is there and never moves."""
    wireguard: WireguardPoint | None = None
    """How its tunnels are encrypted; `underlay` is the device's name then."""
    uplink: str | None = None
    """The device by which the virtual network's traffic to the outside can leave here."""


DEFAULT_GATEWAY_MAC = "52:54:00:7a:ff:01"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """A virtual network's default gateway, which answers at each of its sites alike."""

    ip: str | None = None
    """Of IPv4; None: the gateway doesn't speak it."""
    prefix_length: int = 24
    ip6: str | None = None
    """Of IPv6; None: the gateway doesn't speak it."""
    prefix_length6: int = 64
    mac: str
    home: str | None = None
    """The site by which all traffic to the outside leaves, where `exit_at_home`; else that of sites without an
    uplink."""
    exit_at_home: bool = False
    """Otherwise it leaves at the site of the VM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayNetwork:
    """One virtual network, over the sites that have it; no frame goes from one to another."""

    name: VirtualNetworkName = ONLY_NETWORK
    vni: int
    sites: tuple[OverlaySite, ...]
    port: int = 4789
    agents: bool = False
    """Whether each site has an agent."""
    gateway: GatewaySettings | None = None

    @property
    def device(self) -> str:
        """The name of the VXLAN device at each site."""
        return f"thvx{self.vni}"

    @property
    def detour_vni(self) -> int:
        """VXLAN's number of what goes on to where a VM has gone."""
        return detour_of(self.vni)

    @property
    def terms(self) -> str:
        """A digest of what has to be the same at all sites: who they are, where they end, and the gateway."""
        sites = sorted((each.name, each.vtep, each.uplink is not None) for each in self.sites)
        agreed = repr((self.vni, self.port, sites, self.gateway))
        return blake2b(agreed.encode(), digest_size=8).hexdigest()

    def obstacle_at(self, site: str) -> str | None:
        """Say that a site lacks the network, where it does."""
        names = sorted(each.name for each in self.sites)
        of = "the overlay" if self.name == ONLY_NETWORK else f"network {self.name}"
        return None if site in names else f"{site} isn't a site of {of}; it has {', '.join(names)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFeed:
    """Where prices come from: a schedule on disk or a JSON feed over HTTP; exactly one of the two."""

    file: Path | None = None
    url: str | None = None
    every_seconds: float = 30.0
    certain: bool = False
    """The schedule's future prices are sure to come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """Where what the daemon knows is recorded for replays, and how much of it is kept."""

    folder: Path
    at_most_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """Policies that aren't in force, and how often they are compared with those that are."""

    policies: tuple[Path, ...]
    """Files, or folders of files that act together."""
    every_seconds: float = 600.0
    at_most_seconds: float = 300.0
    """What a comparison may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayPoint:
    """How a cloud's gateway is asked: by a socket on this machine, or over TLS."""

    cloud: CloudName
    socket: Path | None = None
    address: str | None = None
    """Host and port."""


DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrewarmBudget:
    """What may be sent ahead of moves while their plan waits."""

    bytes_per_vm: int
    """On the wire."""
    bytes_per_second: float | None = None
    """For all VMs together from one cloud to one other; None: no limit."""
    dollars: float | None = None
    """For all of a plan's VMs together; None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonFiles:
    """What is the same at all hosts, by its paths there."""

    shared_folders: tuple[str, ...] = ()
    """What lies under these is one and the same, whatever it looks like."""
    base_images: tuple[str, ...] = ()
    """Image files with the same content at all hosts that have them: of a disk over one of them, only the
    difference needs to be copied."""

    def shares(self, path: str) -> bool:
        """Say whether a file lies under one of the folders, however its path is written."""
        plain = PurePosixPath(posixpath.normpath(path))
        return any(plain.is_relative_to(folder) for folder in self.shared_folders)

    def has_base(self, path: str) -> bool:
        """Say whether a file is one of the images, however its path is written."""
        return posixpath.normpath(path) in self.base_images


NO_COMMON_FILES = CommonFiles()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A federation, as `transhume.yaml` describes it."""

    source: str
    clouds: tuple[Cloud, ...]
    hosts: tuple[Host, ...]
    hypervisors: tuple[Hypervisor, ...]
    links: tuple[Link, ...] = ()
    moves_per_link: int = 1
    """How many moves share a link at a time."""
    capture: tuple[CapturePoint, ...] = ()
    window_seconds: float = 5.0
    traffic_horizon_seconds: float = 300.0
    networks: tuple[OverlayNetwork, ...] = ()
    """The overlay's."""
    clusters: dict[ClusterName, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of VM names by virtual cluster, for VMs whose metadata doesn't say."""
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of VM names by tag."""
    gateways: tuple[GatewayPoint, ...] = ()
    identity: Path | None = None
    """The folder of our operator's certificate."""
    tenants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Patterns of VM names by tenant."""
    prewarm: PrewarmBudget | None = None
    """What may be sent ahead of moves that wait for approval; None: nothing."""
    common_files: CommonFiles = NO_COMMON_FILES
    prices: PriceFeed | None = None
    knowledge_url: str | None = None
    state_directory: Path = Path("/var/lib/transhume")
    recording: RecordingSettings | None = None
    """None: nothing is recorded, unless policies are to be compared."""
    shadow: ShadowSettings | None = None

    def tenant_of(self, vm: str) -> str:
        """Say whose a VM is."""
        for tenant, patterns in self.tenants.items():
            if any(fnmatchcase(vm, pattern) for pattern in patterns):
                return tenant
        return DEFAULT_TENANT
