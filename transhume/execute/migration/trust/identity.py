"""Who we are, and whom we talk to: our certificate in TLS contexts, and the name in a peer's.

Owns what is demanded of a connection: TLS 1.3, a certificate of our authority at both ends, no resumption.
Whoever has a connection asks `expect_peer` or `expect_kind` before anything else is read from it.

A server learns whether the client's certificate is good in the handshake; with TLS 1.3 a client has finished
its own by then. It hears of a refusal when it first reads, as an alert (`ssl.SSLError`), a reset or the end of
the connection: let it wait for a first word of the server before it believes that it was let in.
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from transhume.errors import IdentityUnusable, PeerRefused
from transhume.execute.migration.trust.certificates import (
    CA_FILE,
    CERTIFICATE_FILE,
    ISSUE,
    KEY_FILE,
    CertificateFacts,
    Standing,
    facts_of,
    read_certificate,
)
from transhume.execute.migration.trust.checking import check_issuer, check_key, check_standing
from transhume.execute.migration.trust.peers import Peer, PeerKind

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A holder's certificate, key and authority, checked."""

    peer: Peer
    folder: Path
    facts: CertificateFacts

    def server_context(self) -> ssl.SSLContext:
        """Make what a listening end needs: every client has to show a certificate of our authority.

        Raises:
            IdentityUnusable: the files have changed for the worse since they were checked.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # a resumed session would skip the check of the peer's certificate
        return self._hardened(context)

    def client_context(self) -> ssl.SSLContext:
        """Make what a connecting end needs; host names aren't looked at, so ask `expect_peer` afterwards.

        Raises:
            IdentityUnusable: the files have changed for the worse since they were checked.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self._hardened(context)

    @property
    def is_renewed(self) -> bool:
        """Whether another certificate is in the folder by now.

        Raises:
            IdentityUnusable: it can't be read.
        """
        found = facts_of(read_certificate(self.folder / CERTIFICATE_FILE))
        return found.fingerprint != self.facts.fingerprint

    def equip(self, context: ssl.SSLContext) -> None:
        """Let a context show this certificate; one that is in use already, from the next handshake on.

        Raises:
            IdentityUnusable: certificate and key don't fit.
        """
        try:
            context.load_cert_chain(self.folder / CERTIFICATE_FILE, self.folder / KEY_FILE)
        except (ssl.SSLError, OSError) as error:
            path = str(self.folder / KEY_FILE)
            seen = f"OpenSSL doesn't take the key and its certificate ({error})"
            raise IdentityUnusable(path, seen, ISSUE) from error

    def _hardened(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
        try:
            context.load_verify_locations(cafile=self.folder / CA_FILE)
        except (ssl.SSLError, OSError) as error:
            path = str(self.folder / CA_FILE)
            raise IdentityUnusable(path, f"OpenSSL doesn't take it ({error})", ISSUE) from error
        self.equip(context)
        return context


def load_identity(folder: Path, *, kind: PeerKind, now: datetime | None = None) -> Identity:
    """Return the identity in a folder that `transhume ca issue` has filled.

    A certificate that ends soon is logged (`certificate_ends_soon`).

    Args:
        folder: has certificate.pem, key.pem and ca.pem.
        kind: what the holder has to be.
        now: aware; the present where it isn't given.

    Raises:
        IdentityUnusable: something is missing, unreadable, expired, others' to read, or doesn't fit.
    """
    now = now or datetime.now(UTC)
    authority = read_certificate(folder / CA_FILE)
    _check_authority(folder / CA_FILE, facts_of(authority), now)
    certificate = read_certificate(folder / CERTIFICATE_FILE)
    facts = facts_of(certificate)
    peer = _check_certificate(folder / CERTIFICATE_FILE, facts, kind, now)
    check_issuer(folder / CERTIFICATE_FILE, certificate, authority)
    check_key(folder / KEY_FILE, certificate)
    if facts.standing(now) is Standing.ENDS_SOON:
        ends = facts.ends.isoformat(timespec="seconds")
        log.warning("certificate_ends_soon", holder=str(peer), ends=ends, folder=str(folder))
    return Identity(peer=peer, folder=folder, facts=facts)


def peer_of(connection: ssl.SSLObject | ssl.SSLSocket) -> Peer:
    """Return who is at the other end of a connection whose handshake is done.

    With asyncio: `peer_of(writer.get_extra_info("ssl_object"))`.

    Raises:
        PeerRefused: there is no checked certificate, or it doesn't name exactly one site, host or operator.
    """
    try:
        shown = connection.getpeercert() or {}
    except ValueError as error:
        raise PeerRefused(
            "a site, a host or an operator", f"nothing readable is shown ({error})"
        ) from error
    names = [(str(name[0]), str(name[1])) for name in shown.get("subjectAltName", ())]
    try:
        ((what, uri),) = names
        if what == "URI":
            return Peer.from_uri(uri)
    except ValueError:
        pass
    said = ", ".join(f"{what}:{name}" for what, name in names) or "no name"
    raise PeerRefused("a site, a host or an operator", f"the certificate there has {said[:200]}")


def expect_kind(connection: ssl.SSLObject | ssl.SSLSocket, kind: PeerKind) -> Peer:
    """Return who is at the other end, who has to be of a kind.

    Raises:
        PeerRefused: they aren't.
    """
    peer = peer_of(connection)
    if peer.kind is not kind:
        raise PeerRefused(f"a certificate of kind {kind}", f"{peer} is there")
    return peer


def expect_peer(connection: ssl.SSLObject | ssl.SSLSocket, expected: Peer) -> Peer:
    """Return who is at the other end, who has to be the one expected.

    Raises:
        PeerRefused: somebody else is there.
    """
    peer = peer_of(connection)
    if peer != expected:
        raise PeerRefused(str(expected), f"{peer} is there")
    return peer


def _check_authority(path: Path, facts: CertificateFacts, now: datetime) -> None:
    if not facts.is_authority:
        remedy = "copy ca.pem from the authority's folder"
        raise IdentityUnusable(str(path), "this is no authority's certificate", remedy)
    check_standing(path, facts, now, "make a new authority with `transhume ca init`")


def _check_certificate(path: Path, facts: CertificateFacts, kind: PeerKind, now: datetime) -> Peer:
    if facts.holder is None or facts.is_authority:
        raise IdentityUnusable(str(path), "this names no site, host or operator", ISSUE)
    if facts.holder.kind is not kind:
        seen = f"this is the certificate of {facts.holder}, where one of kind {kind} belongs"
        raise IdentityUnusable(
            str(path), seen, f"issue one with `transhume ca issue --{kind} NAME`"
        )
    check_standing(path, facts, now, ISSUE)
    return facts.holder
