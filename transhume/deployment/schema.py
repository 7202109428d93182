"""The YAML of a deployment, as pydantic models: what an operator may write, and what each key means.

Only `loader` uses them: it turns them into the records of `model` at once.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from transhume.deployment.addresses import checked_address
from transhume.deployment.fields import (
    AbsolutePath,
    Address,
    Device,
    FilePath,
    Ipv4,
    Ipv6,
    Latency,
    LibvirtUri,
    Mac,
    Name,
    Patterns,
    Rate,
    Record,
    RedisUrl,
    Share,
    Stretch,
    WebUrl,
    more_than_nothing,
)
from transhume.deployment.model import DEFAULT_GATEWAY_MAC
from transhume.located_yaml import Quantity, Shorthand
from transhume.quantities import parse_bytes


class CaptureSchema(Record):
    """Where the traffic of a host's VMs is seen."""

    model_config = ConfigDict(title="Capture")

    interfaces: Patterns = Field(
        default=["vnet*"], description="the VMs' interfaces, by names or patterns"
    )
    netns: Name | None = Field(
        default=None, description="the network namespace that they are in, if not ours"
    )
    remote: bool = Field(
        default=False,
        description="true where `transhume capture` runs on that host; else the daemon listens itself",
    )
    method: Literal["auto", "tcx", "clsact", "ring"] = Field(
        default="auto",
        description="how frames are seen: added up in the kernel (`tcx`, or `clsact` before Linux 6.6), "
        "read from a `ring` in shared memory, or the first of these that works",
    )
    cpu_budget: Share = Field(
        default="20%",
        validate_default=True,
        description="how much of one processor capture may take on that host; beyond it frames are sampled",
    )


class CapacitySchema(Record):
    """How much of a host may be used."""

    model_config = ConfigDict(title="Capacity")

    vcpus: int = Field(ge=1, description="virtual CPUs, over all our VMs there")
    memory: Annotated[int, Quantity(parse_bytes, "16GiB")] = Field(
        description="memory, over all our VMs there"
    )


class HostSchema(Record):
    """A hypervisor, and how its libvirt daemon is reached."""

    model_config = ConfigDict(title="Host")

    uri: LibvirtUri | None = Field(
        default=None,
        description="libvirt's URI from here; without it the host is known, but not reached",
    )
    peer_uri: LibvirtUri | None = Field(
        default=None,
        description="libvirt's URI from the other hosts, for migration; without it, the same",
    )
    capture: CaptureSchema | None = Field(
        default=None, description="where traffic is captured; without it, nowhere on this host"
    )
    capacity: CapacitySchema | None = Field(
        default=None, description="what we may use of it; without it, all that libvirt tells of"
    )

    @model_validator(mode="after")
    def _reached(self) -> "HostSchema":
        if self.peer_uri and not self.uri:
            raise ValueError("peer_uri without uri; write uri too")
        return self


class FixedAddressSchema(Record):
    """An address of the overlay that stays where it is."""

    model_config = ConfigDict(title="Fixed address")

    mac: Mac = Field(description="its MAC address")
    ip: Address | None = Field(default=None, description="its IP address, told to who asks for it")
    network: Name | None = Field(
        default=None, description="which of the site's networks it is in, where it has several"
    )


class WireguardSchema(Record):
    """How a site's tunnels are encrypted. Its agent makes the WireGuard device, which is its `underlay`."""

    model_config = ConfigDict(title="WireGuard")

    identity: FilePath = Field(
        description="the folder that `transhume ca issue --site` has filled; relative to this file's folder"
    )
    key: FilePath | None = Field(
        default=None,
        description="where WireGuard's private key is kept, which is made when it isn't there; by default "
        "`wireguard.key` beside the certificate",
    )
    endpoints: list[str] = Field(
        default=[],
        description="`address:port` under which other sites reach this one; none: it is behind NAT",
    )
    port: int = Field(
        default=51820, ge=1, lt=1 << 16, description="the UDP port that it listens on"
    )
    relays: bool = Field(
        default=True,
        description="whether it passes packets on for sites that don't reach each other; only one with "
        "`endpoints` does",
    )


class SiteSchema(Record):
    """A site of the overlay. Either `bridge`, or `bridges` where the overlay has `networks`."""

    model_config = ConfigDict(title="Overlay site")

    bridge: Device | None = Field(default=None, description="the bridge that the VMs are on")
    bridges: Annotated[dict[Name, Device], Field(min_length=1)] | None = Field(
        default=None, description="by network: the bridge of its VMs; a site needn't have all"
    )
    underlay: Device = Field(description="the device that carries the tunnels to other sites")
    vtep: Address = Field(description="the IP address of the tunnels' end on `underlay`")
    netns: Name | None = Field(
        default=None, description="the network namespace that these are in, if not ours"
    )
    wireguard: WireguardSchema | None = Field(
        default=None,
        description="encrypts its tunnels; `vtep` is an address from 100.64.0.0/11 then, and all sites have it",
    )
    addresses: list[FixedAddressSchema] = Field(
        default=[],
        description="what is at this site and never moves, and no hypervisor tells of: a gateway, for example",
    )
    uplink: Device | None = Field(
        default=None,
        description="the device by which what VMs send to the outside may leave here, from this site's own "
        "address (see `gateway` of `overlay`); without it, it leaves at another site",
    )

    @model_validator(mode="after")
    def _one_form(self) -> "SiteSchema":
        if bool(self.bridge) == bool(self.bridges):
            raise ValueError("write either bridge or bridges")
        return self


class GatewayPointSchema(Record):
    """How a site's gateway is asked, which carries migrations. Either `socket` or `address`."""

    model_config = ConfigDict(title="Gateway of a cloud")

    socket: FilePath | None = Field(
        default=None,
        description="its control socket on this machine; relative to this file's folder",
    )
    address: Annotated[str, AfterValidator(checked_address)] | None = Field(
        default=None, description="its host and port, to be reached over TLS (see `transport`)"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "GatewayPointSchema":
        if bool(self.socket) == bool(self.address):
            raise ValueError("write either socket or address")
        return self


class PrewarmSchema(Record):
    """What may be sent ahead of moves while their plan waits. An amount alone stands for `bytes`."""

    model_config = ConfigDict(title="Pre-warming")

    bytes: Annotated[int, Quantity(parse_bytes, "2GiB"), AfterValidator(more_than_nothing)] = Field(
        description="how much for each VM, on the wire"
    )
    rate: Rate | None = Field(
        default=None,
        description="how fast for all VMs together that go from one cloud to one other; without it, as fast "
        "as the link carries what nothing else needs",
    )
    dollars: float | None = Field(
        default=None,
        gt=0,
        description="what a plan's VMs may cost in egress by that, all together; without it, whatever "
        "`bytes` cost",
    )


class TransportSchema(Record):
    """How migrations are carried between sites that have gateways."""

    model_config = ConfigDict(title="Transport")

    identity: FilePath | None = Field(
        default=None,
        description="the folder of our operator's certificate, by `transhume ca issue --operator`; needed for "
        "gateways that are reached by an address; relative to this file's folder",
    )
    tenants: dict[Name, Patterns] = Field(
        default={},
        description="names or patterns of VMs by tenant: pages are never compared across tenants; "
        "VMs that no pattern fits belong to tenant `default`",
    )
    prewarm: Annotated[PrewarmSchema, Shorthand("bytes", "2GiB")] | None = Field(
        default=None,
        description="what may be sent ahead of moves while a plan is recommended or waits for approval; "
        "without it, nothing",
    )


class DisksSchema(Record):
    """What is the same at all hosts, and isn't copied with disks (see `migration` in policies)."""

    model_config = ConfigDict(title="Disks")

    shared_folders: list[AbsolutePath] = Field(
        default=[],
        description="folders whose files all hosts share, where that can't be told from the files themselves",
    )
    base_images: list[AbsolutePath] = Field(
        default=[],
        description="image files with the same content at all hosts that have them: of a disk over one of "
        "them, only the difference is copied to a host that has it",
    )


class CloudSchema(Record):
    """A site under one administration, with a price."""

    model_config = ConfigDict(title="Cloud")

    provider: str = Field(default="", description="whose it is, in any words")
    region: str = Field(default="", description="where it is, in any words")
    revocable: bool = Field(
        default=False, description="true where its machines may be taken back at any time (spot)"
    )
    overlay: SiteSchema | None = Field(default=None, description="its part of the overlay")
    gateway: GatewayPointSchema | None = Field(
        default=None,
        description="its gateway for migrations; without it they go straight from host to host",
    )
    hosts: dict[Name, HostSchema] = Field(default={}, description="its hypervisors")


class DefaultGatewaySchema(Record):
    """The virtual network's default gateway. The agents have it answer at every site, with the same MAC.
    Write `ip`, `ip6` or both."""

    model_config = ConfigDict(title="Default gateway")

    ip: Ipv4 | None = Field(
        default=None, description="the gateway's IPv4 address; without it, it speaks no IPv4"
    )
    prefix_length: int = Field(
        default=24, ge=8, le=30, description="of the network that the VMs' IPv4 addresses are in"
    )
    ip6: Ipv6 | None = Field(
        default=None, description="the gateway's IPv6 address; without it, it speaks no IPv6"
    )
    prefix_length6: int = Field(
        default=64, ge=16, le=126, description="of the network that the VMs' IPv6 addresses are in"
    )
    mac: Mac = Field(
        default=DEFAULT_GATEWAY_MAC, description="its MAC address, which no VM may have"
    )
    exit: Literal["nearest", "home"] = Field(
        default="nearest",
        description="where traffic to the outside leaves: at the VM's site, open connections staying where "
        "they were opened; or all of it by the `home` site",
    )
    home: Name | None = Field(
        default=None,
        description="the site by which everything leaves; with `exit: nearest`, only what comes from sites "
        "without an `uplink`, which otherwise take the first site that has one",
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> "DefaultGatewaySchema":
        if not self.ip and not self.ip6:
            raise ValueError("a gateway without an address; write ip, ip6 or both")
        for ip, length in (("ip", "prefix_length"), ("ip6", "prefix_length6")):
            if length in self.model_fields_set and getattr(self, ip) is None:
                raise ValueError(f"{length} without {ip}; write {ip} too, or remove it")
        return self

    @model_validator(mode="after")
    def _has_a_home(self) -> "DefaultGatewaySchema":
        if self.exit == "home" and self.home is None:
            raise ValueError("`exit: home` without a home; write `home: SITE` too")
        return self


class NetworkSchema(Record):
    """One of several virtual networks, isolated from the others."""

    model_config = ConfigDict(title="Network")

    vni: int = Field(ge=1, lt=1 << 24, description="VXLAN's number of the network")
    gateway: DefaultGatewaySchema | None = Field(
        default=None,
        description="its VMs' default gateway, at every site; needs agents, and a site with an `uplink`",
    )


class OverlaySchema(Record):
    """What joins the clouds. Either `vni`, for one virtual network, or `networks`, for several."""

    model_config = ConfigDict(title="Overlay")

    vni: int | None = Field(
        default=None, ge=1, lt=1 << 24, description="VXLAN's number of the network"
    )
    networks: Annotated[dict[Name, NetworkSchema], Field(min_length=1)] | None = Field(
        default=None,
        description="virtual networks that are isolated from each other; sites name their `bridges`",
    )
    port: int = Field(default=4789, ge=1, lt=1 << 16, description="the tunnels' UDP port")
    agents: bool = Field(
        default=False,
        description="whether each site has an agent (`transhume overlay agent`) that looks after it; otherwise "
        "the daemon does, which has to be on the same machine",
    )
    gateway: DefaultGatewaySchema | None = Field(
        default=None,
        description="the VMs' default gateway, at every site; needs agents, and a site with an `uplink`",
    )

    @model_validator(mode="after")
    def _one_form(self) -> "OverlaySchema":
        if bool(self.vni) == bool(self.networks):
            raise ValueError("write either vni or networks")
        return self


class LinkSchema(Record):
    """What the path between two clouds carries."""

    model_config = ConfigDict(title="Link")

    between: Annotated[list[Name], Field(min_length=2, max_length=2)] = Field(
        description="the two clouds"
    )
    rate: Rate = Field(description="how much it carries, in either direction")
    latency: Latency | None = Field(default=None, description="the round trip between them")


class PricesSchema(Record):
    """Where prices come from. Either `file` or `url`."""

    model_config = ConfigDict(title="Prices")

    file: FilePath | None = Field(
        default=None,
        description="a schedule, `*.yaml` or `*.csv`; relative to this file's folder",
    )
    url: WebUrl | None = Field(default=None, description="a JSON feed")
    every: Stretch = Field(
        default="30s", validate_default=True, description="how often the feed is read"
    )
    certain: bool = Field(
        default=False,
        description="true where the schedule's prices are sure to come (a tariff): plans count on them",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "PricesSchema":
        if bool(self.file) == bool(self.url):
            raise ValueError("write either file or url")
        if self.certain and not self.file:
            raise ValueError("a feed tells no prices to come; remove certain, or write a file")
        return self


class KnowledgeSchema(Record):
    """Where the shared state is kept. Without a URL a Redis server is started for it."""

    model_config = ConfigDict(title="Knowledge")

    url: RedisUrl | None = Field(default=None, description="a Redis server that runs already")
    state_dir: FilePath | None = Field(
        default=None,
        description="the folder for our own server's data (without it /var/lib/transhume); "
        "relative to this file's folder",
    )


class RecordingSchema(Record):
    """Whether what the daemon knows is recorded for replays."""

    model_config = ConfigDict(title="Recording")

    folder: FilePath | None = Field(
        default=None,
        description="the folder that traces are written into (without it `recording` in `state_dir`); "
        "relative to this file's folder",
    )
    at_most: Annotated[int, Quantity(parse_bytes, "256MiB"), AfterValidator(more_than_nothing)] = (
        Field(
            default="256MiB",
            validate_default=True,
            description="how much all traces may take; the oldest make room",
        )
    )


class ShadowSchema(Record):
    """Policies that aren't in force, replayed over what is recorded while the daemon runs."""

    model_config = ConfigDict(title="Shadow")

    policies: Annotated[list[FilePath], Field(min_length=1)] = Field(
        description="policy files, or folders whose policies act together; relative to this file's folder"
    )
    every: Stretch = Field(
        default="10m", validate_default=True, description="how often they are compared"
    )
    at_most: Stretch = Field(
        default="5m", validate_default=True, description="how long a comparison may take"
    )


class DeploymentSchema(Record):
    """A federation: its clouds, how they are reached, and what is known of them beforehand."""

    model_config = ConfigDict(title="Deployment")

    clouds: Annotated[dict[Name, CloudSchema], Field(min_length=1)] = Field(
        description="the clouds"
    )
    window: Stretch = Field(
        default="5s", validate_default=True, description="the length of a window of traffic"
    )
    traffic_horizon: Stretch = Field(
        default="5m",
        validate_default=True,
        description="how far back traffic counts as the present",
    )
    gateways: dict[Name, SiteSchema] = Field(
        default={}, description="sites of the overlay without VMs: its ways to the outside"
    )
    overlay: OverlaySchema | None = Field(default=None, description="what joins the sites")
    transport: TransportSchema = Field(
        default=TransportSchema(), description="how gateways carry migrations"
    )
    disks: DisksSchema = Field(
        default=DisksSchema(),
        description="what of disks needn't be copied, as far as it can't be seen",
    )
    links: list[LinkSchema] = Field(default=[], description="the paths between clouds")
    moves_per_link: Annotated[int, Field(ge=1)] = Field(
        default=1,
        description="how many moves share a link at a time, each with its share: more than one lets a group's "
        "VMs go and arrive together, and each takes longer",
    )
    clusters: dict[Name, Patterns] = Field(
        default={},
        description="names or patterns of VMs; a cluster named here replaces that of their metadata",
    )
    tags: dict[Name, Patterns] = Field(default={}, description="names or patterns of VMs")
    prices: PricesSchema | None = Field(default=None, description="where prices come from")
    knowledge: KnowledgeSchema | None = Field(
        default=None, description="where the shared state is kept"
    )
    recording: RecordingSchema | None = Field(
        default=None,
        description="whether what is known is recorded for replays; without it, only where there is a shadow",
    )
    shadow: ShadowSchema | None = Field(
        default=None, description="policies to compare with those in force"
    )
