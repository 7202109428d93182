"""Tickets: a destination's leave for one migration, from one site, for one VM, once.

Owns what was granted and not yet used. A ticket is 32 random bytes; the destination keeps only their SHA-256,
so that nobody who reads its memory or its logs can use one, and so that how long a look-up takes tells
nothing about them. Records live in memory: after a restart of the gateway every ticket is unknown, and the
operator asks again.

No method waits for anything: between two `await`s of the caller a redemption is whole.
"""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import PurePosixPath
from typing import NewType

import structlog

from transhume.errors import Refused
from transhume.execute.migration.trust.admission import (
    AdmissionPolicy,
    AdmissionRequest,
    Refusal,
    TenantName,
)
from transhume.execute.migration.trust.peers import Peer, PeerKind
from transhume.knowledge.model import VmName

AdmissionId = NewType("AdmissionId", str)
"""Names an admission in logs and to operators; whoever knows it can't redeem anything."""

TOKEN_BYTES = 32
DEFAULT_LIFETIME_SECONDS = 120.0
LONGEST_LIFETIME_SECONDS = 3600.0
DEFAULT_MOST_OPEN = 256
_REMEMBERED_FOR_EACH_OPEN = 4
_LONGEST_LOGGED = 200

_SEEN = {
    Refusal.UNKNOWN: "no such ticket was granted here, or it is long over",
    Refusal.EXPIRED: "its ticket has expired; ask for another",
    Refusal.USED: "its ticket was used before",
    Refusal.WITHDRAWN: "its ticket was withdrawn",
    Refusal.OTHER_SITE: "its ticket was granted to another site",
    Refusal.OTHER_VM: "its ticket was granted for another VM",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What an operator hands to the source, in secret."""

    admission: AdmissionId
    token: bytes = field(repr=False)
    lifetime_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A migration that may come in; all that the destination needs to know to receive it."""

    id: AdmissionId
    vm: VmName
    vm_uuid: str | None
    tenant: TenantName
    source: str
    host: str | None
    sockets: tuple[PurePosixPath, ...]
    most_bytes: int
    operator: str
    """Who asked for it."""
    expires_at: float
    """By the monotonic clock; it counts until the ticket is redeemed."""


class Admissions:
    """The tickets of one destination, in bounded memory."""

    def __init__(
        self,
        *,
        policy: AdmissionPolicy,
        clock: Callable[[], float] = time.monotonic,
        most_open: int = DEFAULT_MOST_OPEN,
    ) -> None:
        """Begin without any.

        Args:
            policy: what may be granted; `policy` may be replaced while tickets are out.
            clock: monotonic, in seconds.
            most_open: how many tickets may be out at once.
        """
        self.policy = policy
        self._clock = clock
        self._most_open = most_open
        self._open: dict[bytes, Admission] = {}
        self._over: OrderedDict[bytes, Refusal] = OrderedDict()

    def grant(
        self,
        request: AdmissionRequest,
        *,
        operator: Peer,
        lifetime_seconds: float = DEFAULT_LIFETIME_SECONDS,
    ) -> Ticket:
        """Admit a migration that the policy allows, and return the ticket for it.

        No ticket is good for longer than an hour; the ticket says for how long it is.

        Raises:
            Refused: the policy doesn't allow it, or too many tickets are out.
            ValueError: the lifetime isn't more than nothing.
        """
        if not lifetime_seconds > 0:
            raise ValueError(f"a ticket with a lifetime of {lifetime_seconds} s; give more than 0")
        self._expire()
        try:
            most_bytes = self.policy.admit(request)
            self._check_room(request)
        except Refused as refused:
            why = {"reason": str(refused.reason), "why": refused.seen}
            log.warning("admission_refused", **_of(request), operator=operator.name, **why)
            raise
        token = secrets.token_bytes(TOKEN_BYTES)
        lifetime_seconds = min(lifetime_seconds, LONGEST_LIFETIME_SECONDS)
        admission = self._admission(request, most_bytes, operator, lifetime_seconds)
        self._open[_digest(token)] = admission
        log.info(
            "admission_granted", admission=admission.id, **_of(admission), operator=operator.name
        )
        return Ticket(admission=admission.id, token=token, lifetime_seconds=lifetime_seconds)

    def redeem(
        self, token: bytes, *, peer: Peer, vm: VmName, vm_uuid: str | None = None
    ) -> Admission:
        """Take a ticket that a source shows, and return what it was granted for.

        A ticket that is shown by the wrong site, or for another VM, isn't spent by that: its holder can still
        use it.

        Args:
            token: as the source sent it, of any length.
            peer: who the connection's certificate names.
            vm: what the source says that it sends.
            vm_uuid: likewise; compared where both sides know it.

        Raises:
            Refused: with the `Refusal` as its reason.
        """
        self._expire()
        digest = _digest(token)
        admission = self._open.get(digest)
        reason = self._reason(digest, admission, peer, vm, vm_uuid)
        if admission is None or reason is not None:
            raise self._refused(reason or Refusal.UNKNOWN, admission, peer, vm)
        self._end(digest, Refusal.USED)
        log.info("ticket_redeemed", admission=admission.id, **_of(admission))
        return admission

    def withdraw(self, admission: AdmissionId) -> bool:
        """Take an admission back; return whether its ticket was still out."""
        self._expire()
        for digest, granted in self._open.items():
            if granted.id == admission:
                self._end(digest, Refusal.WITHDRAWN)
                log.info("admission_withdrawn", admission=admission, **_of(granted))
                return True
        return False

    @property
    def open(self) -> tuple[Admission, ...]:
        """What was granted and is neither used nor over, the oldest first."""
        self._expire()
        return tuple(self._open.values())

    def check_invariants(self) -> None:
        """See that memory is bounded and nothing is both open and over (AssertionError)."""
        assert len(self._open) <= self._most_open
        assert len(self._over) <= self._most_open * _REMEMBERED_FOR_EACH_OPEN
        assert not self._open.keys() & self._over.keys()

    def _check_room(self, request: AdmissionRequest) -> None:
        if len(self._open) >= self._most_open:
            seen = f"{len(self._open)} tickets are out, and no more may be; wait, or withdraw some"
            raise Refused(request.vm, request.source, Refusal.TOO_MANY, seen)

    def _admission(
        self,
        request: AdmissionRequest,
        most_bytes: int,
        operator: Peer,
        lifetime_seconds: float,
    ) -> Admission:
        return Admission(
            id=AdmissionId(secrets.token_hex(8)),
            vm=request.vm,
            vm_uuid=request.vm_uuid,
            tenant=request.tenant,
            source=request.source,
            host=request.host,
            sockets=request.sockets,
            most_bytes=most_bytes,
            operator=operator.name,
            expires_at=self._clock() + lifetime_seconds,
        )

    def _reason(
        self,
        digest: bytes,
        admission: Admission | None,
        peer: Peer,
        vm: VmName,
        vm_uuid: str | None,
    ) -> Refusal | None:
        if admission is None:
            return self._over.get(digest, Refusal.UNKNOWN)
        if peer.kind is not PeerKind.SITE or not _same(peer.name, admission.source):
            return Refusal.OTHER_SITE
        if not _same(vm, admission.vm):
            return Refusal.OTHER_VM
        both = vm_uuid is not None and admission.vm_uuid is not None
        if both and not _same(str(vm_uuid).lower(), str(admission.vm_uuid).lower()):
            return Refusal.OTHER_VM
        return None

    def _refused(
        self, reason: Refusal, admission: Admission | None, peer: Peer, vm: VmName
    ) -> Refused:
        log.warning(
            "ticket_refused",
            reason=str(reason),
            peer=str(peer),
            vm=vm[:_LONGEST_LOGGED],
            admission=admission.id if admission else None,
        )
        return Refused(vm[:_LONGEST_LOGGED], peer.name, reason, _SEEN[reason])

    def _expire(self) -> None:
        now = self._clock()
        expired = [digest for digest, each in self._open.items() if each.expires_at <= now]
        for digest in expired:
            log.info("ticket_expired", admission=self._open[digest].id, **_of(self._open[digest]))
            self._end(digest, Refusal.EXPIRED)

    def _end(self, digest: bytes, how: Refusal) -> None:
        del self._open[digest]
        self._over[digest] = how
        while len(self._over) > self._most_open * _REMEMBERED_FOR_EACH_OPEN:
            self._over.popitem(last=False)


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(*(each.encode(errors="surrogatepass") for each in (one, other)))


def _of(what: AdmissionRequest | Admission) -> dict[str, str]:
    return {"vm": what.vm[:_LONGEST_LOGGED], "source": what.source, "tenant": what.tenant}
