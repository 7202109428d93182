"""A deployment file in, a `Deployment` out; or every mistake of the file, with its place.

Touches the world only to read the file. What may be written is in `schema`, what must fit in `crosschecks`.
"""

from collections.abc import Iterator
from pathlib import Path

from transhume.deployment.crosschecks import crosschecks
from transhume.deployment.model import (
    CaptureMethod,
    CapturePoint,
    CommonFiles,
    Deployment,
    GatewayPoint,
    GatewaySettings,
    Hypervisor,
    OverlayNetwork,
    OverlaySite,
    PrewarmBudget,
    PriceFeed,
    RecordingSettings,
    ShadowSettings,
    WireguardPoint,
)
from transhume.deployment.schema import (
    CapacitySchema,
    DefaultGatewaySchema,
    DeploymentSchema,
    KnowledgeSchema,
    PrewarmSchema,
    PricesSchema,
    RecordingSchema,
    ShadowSchema,
    SiteSchema,
    WireguardSchema,
)
from transhume.knowledge.model import (
    ONLY_NETWORK,
    Cloud,
    CloudName,
    ClusterName,
    Host,
    HostName,
    Interface,
    IpAddress,
    Link,
    MacAddress,
    Resources,
    VirtualNetworkName,
)
from transhume.located_yaml import read_file, validate

DEFAULT_STATE_DIRECTORY = Path("/var/lib/transhume")


def load_deployment(path: Path) -> Deployment:
    """Return the deployment in a file. Paths in it are relative to the file's folder.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    written = validate(DeploymentSchema, read_file(path), crosschecks)
    return _to_deployment(written, path)


def _to_deployment(written: DeploymentSchema, path: Path) -> Deployment:
    folder = path.absolute().parent
    state_directory = _state_directory(written.knowledge, folder)
    networks = tuple(_to_networks(written, folder))
    return Deployment(
        source=str(path),
        clouds=tuple(
            Cloud(
                name=CloudName(name),
                provider=cloud.provider,
                region=cloud.region,
                revocable=cloud.revocable,
                networks=_networks_of(name, networks),
            )
            for name, cloud in written.clouds.items()
        ),
        hosts=tuple(
            Host(name=HostName(name), cloud=CloudName(cloud))
            for cloud, inside in written.clouds.items()
            for name in inside.hosts
        ),
        hypervisors=tuple(_hypervisors(written)),
        links=tuple(_links(written)),
        moves_per_link=written.moves_per_link,
        capture=tuple(_capture_points(written)),
        window_seconds=written.window,
        traffic_horizon_seconds=written.traffic_horizon,
        networks=networks,
        clusters={ClusterName(name): tuple(vms) for name, vms in written.clusters.items()},
        tags={tag: tuple(vms) for tag, vms in written.tags.items()},
        gateways=tuple(_gateway_points(written, folder)),
        identity=folder / written.transport.identity if written.transport.identity else None,
        tenants={name: tuple(vms) for name, vms in written.transport.tenants.items()},
        prewarm=_to_prewarm(written.transport.prewarm),
        common_files=CommonFiles(
            shared_folders=tuple(written.disks.shared_folders),
            base_images=tuple(written.disks.base_images),
        ),
        prices=_to_feed(written.prices, folder) if written.prices else None,
        knowledge_url=written.knowledge.url if written.knowledge else None,
        state_directory=state_directory,
        recording=_to_recording(written.recording, folder, state_directory),
        shadow=_to_shadow(written.shadow, folder),
    )


def _to_prewarm(written: PrewarmSchema | None) -> PrewarmBudget | None:
    if written is None:
        return None
    return PrewarmBudget(
        bytes_per_vm=written.bytes, bytes_per_second=written.rate, dollars=written.dollars
    )


def _hypervisors(written: DeploymentSchema) -> Iterator[Hypervisor]:
    for cloud in written.clouds.values():
        for name, host in cloud.hosts.items():
            if host.uri:
                peer_uri = host.peer_uri or host.uri
                yield Hypervisor(
                    host=HostName(name),
                    uri=host.uri,
                    peer_uri=peer_uri,
                    capacity=_to_resources(host.capacity) if host.capacity else None,
                )


def _to_resources(written: CapacitySchema) -> Resources:
    return Resources(vcpus=written.vcpus, memory_bytes=written.memory)


def _capture_points(written: DeploymentSchema) -> Iterator[CapturePoint]:
    for cloud in written.clouds.values():
        for name, host in cloud.hosts.items():
            if capture := host.capture:
                yield CapturePoint(
                    host=HostName(name),
                    interfaces=tuple(capture.interfaces),
                    netns=capture.netns,
                    remote=capture.remote,
                    method=CaptureMethod(capture.method),
                    cpu_budget=capture.cpu_budget,
                )


def _links(written: DeploymentSchema) -> Iterator[Link]:
    for link in written.links:
        ends = frozenset(map(CloudName, link.between))
        yield Link(clouds=ends, bytes_per_second=link.rate, latency_seconds=link.latency)


def _gateway_points(written: DeploymentSchema, folder: Path) -> Iterator[GatewayPoint]:
    for name, cloud in written.clouds.items():
        if gateway := cloud.gateway:
            yield GatewayPoint(
                cloud=CloudName(name),
                socket=folder / gateway.socket if gateway.socket else None,
                address=gateway.address,
            )


def _to_networks(written: DeploymentSchema, folder: Path) -> Iterator[OverlayNetwork]:
    overlay = written.overlay
    if overlay is None:
        return
    written_out = overlay.networks or {}
    numbers = {VirtualNetworkName(name): each.vni for name, each in written_out.items()}
    gateways = {name: each.gateway for name, each in written_out.items()}
    if overlay.vni is not None:
        numbers[ONLY_NETWORK], gateways[ONLY_NETWORK] = overlay.vni, overlay.gateway
    clouds = {name: cloud.overlay for name, cloud in written.clouds.items() if cloud.overlay}
    sites = {**clouds, **written.gateways}
    for network, vni in numbers.items():
        yield OverlayNetwork(
            name=network,
            vni=vni,
            port=overlay.port,
            agents=overlay.agents,
            gateway=_to_default_gateway(gateways[network]),
            sites=tuple(
                _to_site(name, site, network, bridge, folder)
                for name, site in sites.items()
                if (bridge := site.bridge or (site.bridges or {}).get(network))
            ),
        )


def _networks_of(
    cloud: str, networks: tuple[OverlayNetwork, ...]
) -> frozenset[VirtualNetworkName] | None:
    if not networks:
        return None
    return frozenset(each.name for each in networks if cloud in {site.name for site in each.sites})


def _to_default_gateway(written: DefaultGatewaySchema | None) -> GatewaySettings | None:
    if written is None:
        return None
    return GatewaySettings(
        ip=written.ip,
        prefix_length=written.prefix_length,
        ip6=written.ip6,
        prefix_length6=written.prefix_length6,
        mac=written.mac,
        home=written.home,
        exit_at_home=written.exit == "home",
    )


def _to_site(
    name: str, site: SiteSchema, network: VirtualNetworkName, bridge: str, folder: Path
) -> OverlaySite:
    return OverlaySite(
        name=name,
        bridge=bridge,
        underlay=site.underlay,
        vtep=site.vtep,
        netns=site.netns,
        uplink=site.uplink,
        wireguard=_to_wireguard(site.wireguard, folder) if site.wireguard else None,
        fixed=tuple(
            Interface(mac=MacAddress(each.mac), ips=(IpAddress(each.ip),) if each.ip else ())
            for each in site.addresses
            if each.network in (network, None)
        ),
    )


def _to_wireguard(written: WireguardSchema, folder: Path) -> WireguardPoint:
    identity = folder / written.identity
    return WireguardPoint(
        identity=identity,
        key=folder / written.key if written.key else identity / "wireguard.key",
        endpoints=tuple(written.endpoints),
        port=written.port,
        relays=written.relays,
    )


def _to_feed(written: PricesSchema, folder: Path) -> PriceFeed:
    return PriceFeed(
        file=folder / written.file if written.file else None,
        url=written.url,
        every_seconds=written.every,
        certain=written.certain,
    )


def _state_directory(written: KnowledgeSchema | None, folder: Path) -> Path:
    if written is None or written.state_dir is None:
        return DEFAULT_STATE_DIRECTORY
    return folder / written.state_dir


def _to_recording(
    written: RecordingSchema | None, folder: Path, state_directory: Path
) -> RecordingSettings | None:
    if written is None:
        return None
    return RecordingSettings(
        folder=folder / written.folder if written.folder else recording_in(state_directory),
        at_most_bytes=written.at_most,
    )


def _to_shadow(written: ShadowSchema | None, folder: Path) -> ShadowSettings | None:
    if written is None:
        return None
    return ShadowSettings(
        policies=tuple(folder / path for path in written.policies),
        every_seconds=written.every,
        at_most_seconds=written.at_most,
    )


def recording_in(state_directory: Path) -> Path:
    """Return where traces are recorded if nobody says where."""
    return state_directory / "recording"
