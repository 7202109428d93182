"""The YAML files that stand in for an inventory: which VM has which addresses, and what is where.

Owns their schemas and their reading; a mistake is told with its place in the file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel

from transhume.analyze.networks import Networks
from transhume.errors import Mistake, UsageError
from transhume.knowledge.model import (
    NOTHING,
    CloudName,
    ClusterName,
    Interface,
    IpAddress,
    MacAddress,
    NetworkName,
    Vm,
    VmName,
)
from transhume.located_yaml import Located, read_file, validate

MOST_NAMED = 12
"""So many VMs are named in a message."""


def _ip_address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no IP address; write it as in 10.0.0.1 or fd00::1") from None


def _ip_network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no network ({error}); write it as in 10.8.0.0/16 or fd00::/8"
        ) from None


def _mac_address(text: str) -> str:
    if re.fullmatch("([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", text) is None:
        raise ValueError(f"{text!r} is no MAC address; write it as in 52:54:00:12:34:56")
    return text.lower()


class VmSchema(BaseModel):
    """A VM's addresses."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="VM")

    mac: Annotated[str, AfterValidator(_mac_address)] | None = Field(
        default=None, description="its MAC address"
    )
    ips: list[Annotated[str, AfterValidator(_ip_address)]] = Field(
        default=[], description="its IP addresses"
    )
    cluster: str | None = Field(default=None, description="the virtual cluster that it is part of")


class VmsSchema(RootModel[dict[str, VmSchema]]):
    """VMs by name."""


class PlacementSchema(RootModel[dict[str, str]]):
    """The cloud that each VM is in."""


class NetworksSchema(RootModel[dict[str, list[Annotated[str, AfterValidator(_ip_network)]]]]):
    """The networks that lie under each name."""


def load_vms(path: Path) -> tuple[Vm, ...]:
    """Return the VMs that a file names.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    return tuple(
        Vm(
            name=VmName(name),
            uuid=name,
            needs=NOTHING,
            interfaces=(
                Interface(mac=MacAddress(vm.mac or ""), ips=tuple(map(IpAddress, vm.ips))),
            ),
            cluster=ClusterName(vm.cluster) if vm.cluster else None,
        )
        for name, vm in validate(VmsSchema, read_file(path), _same_macs).root.items()
    )


def _same_macs(located: Located) -> Iterator[Mistake]:
    """Find a MAC address that is two VMs': the second would seem to be silent."""
    line_of: dict[str, int] = {}
    for name in located.data:
        mac = located.get((name, "mac"))
        if isinstance(mac, str) and mac.lower() in line_of:
            message = f"the VM in line {line_of[mac.lower()]} has {mac} too; give each its own"
            yield located.mistake((name, "mac"), message)
        elif isinstance(mac, str):
            line_of[mac.lower()] = located.value_at((name, "mac")).line


def load_networks(path: Path) -> Networks:
    """Return the networks outside that a file gives names.

    Raises:
        InvalidFile: with every mistake in the file.
        UsageError: a network has two names.
    """
    named = validate(NetworksSchema, read_file(path)).root
    try:
        return Networks({NetworkName(name): networks for name, networks in named.items()})
    except ValueError as error:
        raise UsageError(f"{path}: {error}; leave it under one name") from error


def load_placement(path: Path, vms: Sequence[Vm]) -> Mapping[VmName, CloudName]:
    """Return the cloud of each of the VMs.

    Raises:
        InvalidFile: with every mistake in the file.
        UsageError: the file says nothing about a VM.
    """
    placed = validate(PlacementSchema, read_file(path)).root
    missing = [vm.name for vm in vms if vm.name not in placed]
    if missing:
        named = ", ".join(missing[:MOST_NAMED])
        if len(missing) > MOST_NAMED:
            named += f" and {len(missing) - MOST_NAMED:,} more"
        raise UsageError(f"{path}: says nothing about {named}; add `NAME: CLOUD` for each")
    return {vm.name: CloudName(placed[vm.name]) for vm in vms}
