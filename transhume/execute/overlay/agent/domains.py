"""What one hypervisor says of its domains and their interfaces; XML is read only when it may have changed.

libvirt writes a domain's whole XML for each question. Of one that has the same number and state as at the last
time it's read anew only every half a minute, for interfaces that were plugged in meanwhile.
"""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from transhume.execute.overlay.agent.own_taps import is_anothers
from transhume.knowledge.model import Interface, VmName
from transhume.reach.domains import interfaces_in

if TYPE_CHECKING:
    import libvirt

REREAD_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """An interface of a domain, and the bridge that it's on."""

    interface: Interface
    bridge: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A domain that is active."""

    vm: VmName
    runs: bool
    waits: bool
    """It's paused: perhaps its state is still on its way."""
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All of a hypervisor's domains that are active."""

    seen: tuple[Seen, ...]
    complete: bool
    """False: of one of them nothing could be told."""


@dataclass(frozen=True, slots=True)
class _Known:
    state: tuple[int, int]
    read_at: float
    ports: tuple[Port, ...]


class Domains:
    """One hypervisor's domains. Blocking; may be asked by several threads at once.

    Args:
        bridges: a socket where the site's bridges are; None believes all that is said of devices there.
    """

    def __init__(self, bridges: socket.socket | None = None) -> None:
        self._bridges = bridges
        self._known: dict[str, _Known] = {}

    def read(self, connection: "libvirt.virConnect", *, afresh: bool = False) -> Answer:
        """Ask for all that are active; `afresh` reads each one's XML.

        Raises:
            libvirt.libvirtError: there is no answer.
        """
        import libvirt

        seen, complete, known = [], True, {}
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            try:
                each = self._one(domain, afresh=afresh)
            except libvirt.libvirtError as error:
                # One that went between two questions isn't there.
                complete &= error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
                continue
            known[domain.UUIDString()] = each
            state = each.state[1]
            running = state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED)
            waits = state == libvirt.VIR_DOMAIN_PAUSED
            ports = tuple(map(self._checked, each.ports))
            seen.append(Seen(vm=VmName(domain.name()), runs=running, waits=waits, ports=ports))
        self._known = known
        return Answer(seen=tuple(seen), complete=complete)

    def _checked(self, port: Port) -> Port:
        if self._bridges is None or not is_anothers(port.interface, self._bridges):
            return port
        return replace(port, interface=replace(port.interface, device=""))

    def _one(self, domain: "libvirt.virDomain", *, afresh: bool) -> _Known:
        state = domain.ID(), domain.state()[0]
        known, now = self._known.get(domain.UUIDString()), time.monotonic()
        if known and known.state == state and now - known.read_at < REREAD_SECONDS and not afresh:
            return known
        return _Known(state, now, ports_in(domain.XMLDesc()))


def ports_in(xml: str) -> tuple[Port, ...]:
    """Read a domain's interfaces from what libvirt says of it."""
    found = list(interfaces_in(ElementTree.fromstring(xml)))
    # To answer for the wrong one of several would make a black hole.
    alone = len(found) == 1
    return tuple(
        Port(interface=interface if alone else replace(interface, ips=()), bridge=bridge)
        for interface, bridge in found
    )


def on_bridge(bridge: str, ports: Iterable[Port]) -> tuple[Interface, ...]:
    """Return the interfaces that are on a bridge."""
    return tuple(port.interface for port in ports if port.bridge == bridge)
