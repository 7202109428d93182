"""A gateway's configuration: what an operator writes in `gateway.yaml`, as frozen records."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import ConfigDict, Field

from transhume.deployment.addresses import Address, parse_address
from transhume.execute.migration.machine.schema import (
    DEFAULT_PIDS,
    PidsFolder,
    Record,
    SocketsSchema,
    WrittenAddress,
)
from transhume.execute.migration.trust.admission import AdmissionPolicy
from transhume.execute.migration.trust.schema import AdmitSchema, to_rules
from transhume.located_yaml import Quantity, read_file, validate
from transhume.quantities import parse_bytes


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """Images that may be referred to, and by which tenants."""

    path: Path
    tenants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ResidentSettings:
    """VMs at the site whose memory may be referred to, and whose they are."""

    vms: tuple[str, ...]
    """Names or patterns."""
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """One site's gateway."""

    site: str
    listen: Address
    identity: Path
    control: Path
    peers: dict[str, Address]
    sockets: Path
    """The folder of hypervisors' sockets, as the gateway sees it."""
    sockets_seen: PurePosixPath
    """The same, as libvirt and its hypervisors see it."""
    pids: Path
    """Where libvirt writes its hypervisors' process numbers."""
    hosts: tuple[str, ...]
    """The site's other hosts, which have relays."""
    images: tuple[ImageSettings, ...]
    residents: tuple[ResidentSettings, ...]
    store: Path
    store_memory_bytes: int
    store_total_bytes: int
    store_residents_bytes: int
    """For each tenant."""
    admission: AdmissionPolicy


class ImageSchema(Record):
    """A disk image at this site: what is in it isn't sent to it again."""

    model_config = ConfigDict(title="Image")

    path: str = Field(description="the file, in any format; blocks of 4 KiB are compared")
    tenants: list[str] = Field(
        default=["*"], description="names or patterns of the tenants that may know what is in it"
    )


class ResidentSchema(Record):
    """VMs that run at this site: what is in their memory isn't sent to it again for others of the tenant."""

    model_config = ConfigDict(title="Resident")

    vms: list[str] = Field(description="names or patterns, as libvirt has them")
    tenant: str = Field(
        description="whose they are; gateways that may send VMs of this tenant learn digests of pages"
    )


class StoreSchema(Record):
    """What may be kept of pages that were sent or received, for each tenant, peer and direction."""

    model_config = ConfigDict(title="Store")

    folder: str = Field(
        default="/var/lib/transhume/store",
        description="where pages go, encrypted, that have no room in memory",
    )
    memory: Annotated[int, Quantity(parse_bytes, "512MiB")] = Field(
        default="512MiB", validate_default=True, description="how much of it in memory"
    )
    total: Annotated[int, Quantity(parse_bytes, "4GiB")] = Field(
        default="4GiB",
        validate_default=True,
        description="how much in all; less where the folder's disk would have less than a twentieth left",
    )
    residents: Annotated[int, Quantity(parse_bytes, "1GiB")] = Field(
        default="1GiB",
        validate_default=True,
        description="how much of the memory of VMs that run here, for each tenant",
    )


class GatewaySchema(Record):
    """A site's gateway."""

    site: str = Field(description="the site's name: its cloud's in the deployment file")
    listen: WrittenAddress = Field(description="address and port for the other sites' gateways")
    identity: str = Field(
        description="the folder that `transhume ca issue` has filled; relative to this file's folder"
    )
    control: str = Field(
        default="/run/transhume/gateway.sock",
        description="a unix socket for the daemon and for `transhume store`",
    )
    peers: dict[str, WrittenAddress] = Field(default={}, description="the other sites' addresses")
    sockets: SocketsSchema = Field(default=SocketsSchema(), description="hypervisors' sockets")
    pids: PidsFolder = DEFAULT_PIDS
    hosts: list[str] = Field(
        default=[],
        description="the site's other hosts, as the deployment file calls them: at each runs `transhume relay`",
    )
    images: list[ImageSchema] = Field(default=[], description="images that are at this site")
    residents: list[ResidentSchema] = Field(
        default=[], description="VMs that run at this site, and may be like those that come"
    )
    store: StoreSchema = Field(default=StoreSchema(), description="what is kept of pages")
    admit: list[AdmitSchema] = Field(default=[], description="what is let in; the rest isn't")


def load_gateway(path: Path) -> GatewaySettings:
    """Return what is in a gateway's configuration file. Paths in it are relative to its folder.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    written = validate(GatewaySchema, read_file(path))
    folder = path.absolute().parent
    seen = written.sockets.seen_from(folder)
    return GatewaySettings(
        site=written.site,
        listen=parse_address(written.listen),
        identity=folder / written.identity,
        control=folder / written.control,
        peers={site: parse_address(address) for site, address in written.peers.items()},
        sockets=folder / written.sockets.folder,
        sockets_seen=seen,
        pids=folder / written.pids,
        hosts=tuple(written.hosts),
        images=tuple(
            ImageSettings(folder / image.path, tuple(image.tenants)) for image in written.images
        ),
        residents=tuple(ResidentSettings(tuple(e.vms), e.tenant) for e in written.residents),
        store=folder / written.store.folder,
        store_memory_bytes=written.store.memory,
        store_total_bytes=written.store.total,
        store_residents_bytes=written.store.residents,
        admission=AdmissionPolicy(rules=to_rules(written.admit), socket_folders=(seen,)),
    )
