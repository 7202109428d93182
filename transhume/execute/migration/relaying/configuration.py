"""A relay's configuration: what an operator writes in `relay.yaml`, as a frozen record."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import Field

from transhume.deployment.addresses import Address, parse_address
from transhume.execute.migration.machine.schema import (
    DEFAULT_PIDS,
    PidsFolder,
    Record,
    SocketsSchema,
    WrittenAddress,
)
from transhume.located_yaml import read_file, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySettings:
    """One host's relay."""

    site: str
    gateway: Address
    identity: Path
    sockets: Path
    """The folder of hypervisors' sockets, as the relay sees it."""
    sockets_seen: PurePosixPath
    """The same, as libvirt and its hypervisors see it."""
    pids: Path
    """Where libvirt writes its hypervisors' process numbers."""


class RelaySchema(Record):
    """The relay of one of a site's hosts, other than the one that the gateway runs at."""

    site: str = Field(description="the site's name: its cloud's in the deployment file")
    gateway: WrittenAddress = Field(description="address and port of the site's gateway")
    identity: str = Field(
        description="the folder that `transhume ca issue --host` has filled, whose name is the host's in the "
        "deployment file; relative to this file's folder"
    )
    sockets: SocketsSchema = Field(default=SocketsSchema(), description="hypervisors' sockets")
    pids: PidsFolder = DEFAULT_PIDS


def load_relay(path: Path) -> RelaySettings:
    """Return what is in a relay's configuration file. Paths in it are relative to its folder.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    written = validate(RelaySchema, read_file(path))
    folder = path.absolute().parent
    return RelaySettings(
        site=written.site,
        gateway=parse_address(written.gateway),
        identity=folder / written.identity,
        sockets=folder / written.sockets.folder,
        sockets_seen=written.sockets.seen_from(folder),
        pids=folder / written.pids,
    )
