"""Whether what sites, hypervisors and the register say fits together, and which way frames go. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from transhume.errors import UsageError
from transhume.knowledge.model import (
    AgentStatus,
    Binding,
    BindingState,
    MacAddress,
    SiteName,
    Snapshot,
    VmName,
)

UNREACHED = "none"
"""Of a path: there is none."""
STALE_SECONDS = 10.0
"""A site that says nothing for so long is told of as silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayView:
    """What the register and the agents say, at one instant."""

    revision: int
    bindings: Mapping[MacAddress, Binding]
    agents: Mapping[SiteName, AgentStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The way of frames from one VM to another."""

    source: VmName
    destination: VmName
    source_site: SiteName
    destination_site: SiteName
    vtep: str | None
    """Where the tunnel ends; None: both are at one site."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        way = f"the bridge of {self.source_site}"
        if self.vtep is not None:
            way = f"{way}, a tunnel to {self.vtep}, the bridge of {self.destination_site}"
        return "\n".join(
            [f"{self.source} -> {self.destination}: {way}", *map("  {}".format, self.notes)]
        )


def is_silent(status: AgentStatus, now: datetime) -> bool:
    """Say whether an agent hasn't been heard of lately: what it said last may hold no more."""
    return (now - status.at).total_seconds() > STALE_SECONDS


def late_sites(
    sites: Sequence[str], revision: int, agents: Mapping[SiteName, AgentStatus], now: datetime
) -> tuple[str, ...]:
    """Say which sites haven't followed the register up to a revision, and why."""
    return tuple(_late(sites, revision, agents, now))


def inconsistencies(
    sites: Sequence[str],
    found: OverlayView,
    snapshot: Snapshot,
    now: datetime,
    terms: str = "",
) -> tuple[str, ...]:
    """Say all that doesn't fit together, a line each; `terms` is what agents should have begun with."""
    return (
        *_late(sites, found.revision, found.agents, now),
        *_outdated(sites, found.agents, now, terms),
        *_troubles(sites, found.agents),
        *_unsettled(found.bindings),
        *_misplaced(found.bindings, snapshot),
    )


def trace_between(
    source: str,
    destination: str,
    found: OverlayView,
    snapshot: Snapshot,
    vteps: Mapping[str, str],
) -> Trace:
    """Return the way of frames between two VMs.

    Raises:
        UsageError: one of them isn't known, or has no address in this network.
    """
    ends = [_binding_of(vm, found.bindings, snapshot) for vm in (source, destination)]
    near, far = ends
    return Trace(
        source=VmName(source),
        destination=VmName(destination),
        source_site=near.site,
        destination_site=far.site,
        vtep=vteps.get(far.site, "nowhere") if near.site != far.site else None,
        notes=tuple(_notes(destination, far, found.agents)),
    )


def _binding_of(vm: str, bindings: Mapping[MacAddress, Binding], snapshot: Snapshot) -> Binding:
    if VmName(vm) not in snapshot.vms:
        known = ", ".join(sorted(snapshot.vms)) or "none"
        raise UsageError(f"no VM {vm} is known; there are: {known}")
    for mac in snapshot.macs_of(VmName(vm)):
        if mac in bindings:
            return bindings[mac]
    raise UsageError(f"{vm} has no address in the overlay's register")


def _notes(vm: str, binding: Binding, agents: Mapping[SiteName, AgentStatus]) -> Iterator[str]:
    if binding.state is BindingState.MOVING:
        yield f"{vm} has stopped at {binding.origin} and doesn't run at {binding.site} yet"
    for site, status in sorted(agents.items()):
        if binding.mac in status.detours:
            yield f"{site} sends on what still comes for {vm} there"


def _late(
    sites: Sequence[str], revision: int, agents: Mapping[SiteName, AgentStatus], now: datetime
) -> Iterator[str]:
    for site in sorted(sites):
        status = agents.get(SiteName(site))
        if status is None:
            yield (
                f"{site}: no agent has ever answered; start one there "
                f"(transhume overlay agent --site {site})"
            )
        elif is_silent(status, now):
            yield f"{site}: its agent was last heard of at {status.at:%H:%M:%S} UTC"
        elif status.applied < revision:
            yield f"{site}: its agent is at revision {status.applied} of {revision}"


def _outdated(
    sites: Sequence[str], agents: Mapping[SiteName, AgentStatus], now: datetime, terms: str
) -> Iterator[str]:
    for site in sorted(sites):
        status = agents.get(SiteName(site))
        if status is None or is_silent(status, now) or not (terms and status.terms):
            continue
        if status.terms != terms:
            yield (
                f"{site}: its agent began with another deployment file or version: its sites, their vtep or "
                "uplink, or the gateway aren't those of the file here; start it anew with this one"
            )


def _troubles(sites: Sequence[str], agents: Mapping[SiteName, AgentStatus]) -> Iterator[str]:
    for site, status in sorted((name, each) for name, each in agents.items() if name in sites):
        for fault in status.faults:
            yield f"{site}: {fault}"
        for path in status.paths:
            if path.endswith(f": {UNREACHED}"):
                yield f"{site}: no encrypted path to {path.removesuffix(f': {UNREACHED}')}"
        for mac in status.damped:
            yield f"{site}: {mac} moves by itself too often; is it used twice?"


def _unsettled(bindings: Mapping[MacAddress, Binding]) -> Iterator[str]:
    for mac, binding in sorted(bindings.items()):
        if binding.state is BindingState.MOVING:
            yield f"{mac} has left {binding.origin} and hasn't arrived at {binding.site}"


def _misplaced(bindings: Mapping[MacAddress, Binding], snapshot: Snapshot) -> Iterator[str]:
    for vm in sorted(snapshot.placement.host_of.keys() - snapshot.moving):
        cloud = snapshot.cloud_of(vm)
        for mac in snapshot.macs_of(vm):
            bound = bindings.get(mac)
            if bound is None:
                yield f"{vm} ({mac}) runs at {cloud}, and the register doesn't know it"
            elif str(bound.site) != cloud:
                yield f"{vm} ({mac}) runs at {cloud}, and is bound to {bound.site}"
