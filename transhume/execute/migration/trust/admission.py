"""What a site lets in: rules of which site may send which VMs, of which tenant, and how large.

Owns the decision, which is pure; without a rule that allows a migration it is refused. Tickets for what is
admitted are the business of `tickets`. What an operator writes is in `schema`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import NewType

from transhume.errors import Refused
from transhume.knowledge.model import VmName
from transhume.quantities import format_bytes

TenantName = NewType("TenantName", str)

ANYTHING = ("*",)
ANY_AMOUNT = 1 << 50
"""Bytes, more than any VM has."""


class Refusal(StrEnum):
    """Why a migration isn't admitted: the `reason` of `Refused`."""

    NO_RULE = "no_rule"
    """The policy has no rule that allows it."""
    SOCKET = "socket"
    """It would connect to a socket outside of the gateway's own folders."""
    TOO_MANY = "too_many"
    """As many tickets are out as may be."""
    UNKNOWN = "unknown"
    """No such ticket was granted, or so long ago that it is forgotten."""
    EXPIRED = "expired"
    USED = "used"
    """Its ticket was redeemed before."""
    WITHDRAWN = "withdrawn"
    OTHER_SITE = "other_site"
    """Its ticket was granted to another site, or is shown by somebody who is no site."""
    OTHER_VM = "other_vm"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRequest:
    """A migration that an operator asks a destination to let in."""

    vm: VmName
    vm_uuid: str | None = None
    """None: nobody knows it yet, and it isn't compared."""
    tenant: TenantName
    source: str
    """The site that will send it."""
    host: str | None = None
    """Of the destination, where its hypervisor will be; None: at the gateway's own."""
    sockets: tuple[PurePosixPath, ...]
    """What the destination's side connects to: of QEMU, and of its NBD exports."""
    most_bytes: int | None = None
    """How much the streams may hold in all, as the hypervisors see them; None: as much as may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRule:
    """Migrations that are let in: those that fit in every respect."""

    sources: tuple[str, ...]
    """Names of sites, or shell patterns."""
    vms: tuple[str, ...] = ANYTHING
    tenants: tuple[str, ...] = ANYTHING
    most_bytes: int | None = None
    """None: any amount."""

    def objections(self, request: AdmissionRequest) -> Iterator[str]:
        """Yield in words each respect in which a migration doesn't fit."""
        if not _matches(request.source, self.sources):
            yield f"its sources are {_listed(self.sources)}"
        if not _matches(request.vm, self.vms):
            yield f"its vms are {_listed(self.vms)}"
        if not _matches(request.tenant, self.tenants):
            yield f"its tenants are {_listed(self.tenants)}"
        asked_bytes = request.most_bytes or 0
        if self.most_bytes is not None and asked_bytes > self.most_bytes:
            asked, most = format_bytes(asked_bytes), format_bytes(self.most_bytes)
            yield f"{asked} were asked for, and its at_most is {most}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """All that a site lets in."""

    rules: tuple[AdmissionRule, ...] = ()
    socket_folders: tuple[PurePosixPath, ...]
    """Where sockets have to be that the gateway is asked to connect to."""

    def admit(self, request: AdmissionRequest) -> int:
        """Return how many bytes a migration may bring, if it may come in.

        Sockets are looked at by their names only: whoever connects sees that no symbolic link leads elsewhere.

        Raises:
            Refused: it may not; says what the nearest rule lacks, or that there is none (`Refusal.NO_RULE`), or
                which socket is out of bounds (`Refusal.SOCKET`).
        """
        for socket in request.sockets:
            if not self._may_connect(socket):
                folders = _listed(tuple(map(str, self.socket_folders))) or "nowhere"
                seen = f"the socket {socket} is none of the gateway's own, which are in {folders}"
                raise Refused(request.vm, request.source, Refusal.SOCKET, seen)
        lacking = [list(rule.objections(request)) for rule in self.rules]
        if all(lacking):
            raise Refused(request.vm, request.source, Refusal.NO_RULE, _told(request, lacking))
        if request.most_bytes is not None:
            return request.most_bytes
        admitting = (rule for rule, lacks in zip(self.rules, lacking, strict=True) if not lacks)
        return max(ANY_AMOUNT if rule.most_bytes is None else rule.most_bytes for rule in admitting)

    def _may_connect(self, socket: PurePosixPath) -> bool:
        return ".." not in socket.parts and any(
            socket != folder and socket.is_relative_to(folder) for folder in self.socket_folders
        )


def _told(request: AdmissionRequest, lacking: list[list[str]]) -> str:
    wanted = f"no rule admits VMs such as it, of tenant {request.tenant}"
    if not lacking:
        return f"{wanted}; there is no rule at all, write one under admit"
    number, nearest = min(enumerate(lacking, start=1), key=lambda each: len(each[1]))
    return f"{wanted}; of rule {number}, the nearest, {', '.join(nearest)}: widen it, or add one"


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)
