"""Whom a site's record comes from: signing ours, and believing others' only when their certificate proves them.

The knowledge is shared by everybody who may write to it, and none of them may put another key in a site's
place. So a record is signed with the key of its site's certificate, over its bytes as written, and a reader
asks: is the certificate of our authority and valid now, does it name this site, is the signature its key's, are
the addresses those that its name gives, is it newer than the last? What a record says is data of another
administration: it is looked through before it gets near a device.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from transhume.errors import IdentityUnusable
from transhume.execute.migration.trust.certificates import (
    CA_FILE,
    CERTIFICATE_FILE,
    ISSUE,
    KEY_FILE,
    Standing,
    facts_of,
    read_bytes,
    read_certificate,
)
from transhume.execute.migration.trust.identity import Identity
from transhume.execute.migration.trust.peers import Peer, PeerKind
from transhume.execute.overlay.underlay.settings import TunnelNetwork
from transhume.execute.overlay.underlay.wireguard_text import is_endpoint
from transhume.knowledge.codec import UnreadableRecord, decode, encode
from transhume.knowledge.model import SignedEndpoint, SiteEndpoint, SiteName

_PURPOSE = b"transhume underlay endpoint 1\n"
"""Signed along, so that no signature for another purpose serves as one for this."""
KEY_BYTES = 32
MOST_ENDPOINTS, MOST_SEEN = 16, 4096
MOST_TOLD, LONGEST_LOGGED = 1000, 200
AHEAD = timedelta(minutes=10)
"""How far another site's clock may be ahead of ours."""

log = structlog.get_logger(__name__)


class StatementRefused(Exception):
    """A record of the underlay isn't to be believed; says why."""


def sign(statement: SiteEndpoint, identity: Identity) -> SignedEndpoint:
    """Sign what a site says of itself, with the certificate in its folder.

    The files are read anew: a certificate that was renewed is shown from the next time on.

    Raises:
        IdentityUnusable: the folder has changed for the worse since it was checked.
    """
    written = encode(statement)
    path = identity.folder / KEY_FILE
    try:
        key = load_pem_private_key(read_bytes(path, ISSUE), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityUnusable(str(path), "this is no key of a site", ISSUE)
    signature = key.sign(_PURPOSE + written, ec.ECDSA(hashes.SHA256()))
    certificate = read_certificate(identity.folder / CERTIFICATE_FILE)
    return SignedEndpoint(
        site=statement.site,
        statement=written.decode(),
        certificate=certificate.public_bytes(Encoding.PEM).decode(),
        signature=base64.b64encode(signature).decode(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """A record that was believed, and until when."""

    statement: SiteEndpoint
    ends: datetime
    """When its certificate ends."""


class Statements:
    """The latest record of each site that was believed."""

    def __init__(
        self,
        identity: Identity,
        tunnels: TunnelNetwork,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._authority = read_certificate(identity.folder / CA_FILE)
        self._tunnels = tunnels
        self._clock = clock
        self._believed: dict[SiteName, Believed] = {}
        self._told: dict[str, str] = {}

    def current(self) -> dict[SiteName, SiteEndpoint]:
        """Return what is believed now; a site whose certificate has ended isn't among it."""
        now = self._clock()
        for site in [site for site, each in self._believed.items() if each.ends <= now]:
            del self._believed[site]
            log.warning("underlay_certificate_ended", site=site)
        return {site: each.statement for site, each in self._believed.items()}

    def hear(self, record: SignedEndpoint) -> bool:
        """Take a record in, or log why not (once a reason); say whether it is a later one."""
        try:
            believed = self.check(record)
        except StatementRefused as refused:
            self._tell(record.site[:LONGEST_LOGGED], str(refused))
            return False
        self._told.pop(record.site, None)
        old = self._believed.get(record.site)
        self._believed[record.site] = believed
        return old is None or old.statement != believed.statement

    def _tell(self, site: str, why: str) -> None:
        if self._told.get(site) != why:
            if len(self._told) >= MOST_TOLD:
                self._told.clear()
            self._told[site] = why
            log.warning("underlay_statement_refused", site=site, why=why)

    def check(self, record: SignedEndpoint) -> Believed:
        """Return what a record says, once all of it is proved.

        Raises:
            StatementRefused: it isn't; says why.
        """
        try:
            certificate = x509.load_pem_x509_certificate(record.certificate.encode())
            certificate.verify_directly_issued_by(self._authority)
        except (ValueError, TypeError, InvalidSignature, x509.InvalidVersion):
            raise StatementRefused("its certificate isn't of our authority") from None
        facts = facts_of(certificate)
        if facts.holder != _site(record.site):
            seen = f"it is signed by {facts.holder or 'nobody that we know'}"
            raise StatementRefused(seen)
        if facts.standing(self._clock()) not in (Standing.VALID, Standing.ENDS_SOON):
            seen = f"its certificate holds from {facts.begins} to {facts.ends}"
            raise StatementRefused(seen)
        self._check_signature(record, certificate)
        try:
            statement = decode(SiteEndpoint, record.statement)
        except UnreadableRecord as error:
            raise StatementRefused(error.seen) from None
        self._check_contents(record, statement)
        return Believed(statement=statement, ends=facts.ends)

    def _check_signature(self, record: SignedEndpoint, certificate: x509.Certificate) -> None:
        key = certificate.public_key()
        try:
            signature = base64.b64decode(record.signature, validate=True)
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise StatementRefused("its certificate's key is of another kind")
            key.verify(signature, _PURPOSE + record.statement.encode(), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise StatementRefused("the signature isn't its certificate's") from None

    def _check_contents(self, record: SignedEndpoint, statement: SiteEndpoint) -> None:
        for seen in _faults(statement):
            raise StatementRefused(seen)
        if statement.site != record.site:
            raise StatementRefused(f"it is about site {statement.site}")
        if statement.address != self._tunnels.address(statement.site):
            own = self._tunnels.address(statement.site)
            raise StatementRefused(
                f"it claims the address {statement.address}, and has {own}: do all sites have "
                "the same network and the same fixed addresses?",
            )
        for other, each in self._believed.items():
            if other != statement.site and each.statement.public_key == statement.public_key:
                raise StatementRefused(f"it claims the key of site {other}")
            if other != statement.site and each.statement.address == statement.address:
                seen = f"its name gives the address of site {other}; fix the one's or the other's"
                raise StatementRefused(seen)
        if statement.at > self._clock() + AHEAD:
            raise StatementRefused(f"it is from the future ({statement.at})")
        old = self._believed.get(statement.site)
        if old is not None and statement.at < old.statement.at:
            raise StatementRefused("it is older than the one before")


def _faults(statement: SiteEndpoint) -> list[str]:
    faults = []
    try:
        key = base64.b64decode(statement.public_key, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES or base64.b64encode(key).decode() != statement.public_key:
        faults.append("its public key is none")
    if not 0 < statement.port < 1 << 16:
        faults.append(f"{statement.port} is no port")
    if len(statement.endpoints) > MOST_ENDPOINTS or len(statement.seen) > MOST_SEEN:
        faults.append("it lists more endpoints than are taken")
    for endpoint in (*statement.endpoints, *(each.endpoint for each in statement.seen)):
        if not is_endpoint(endpoint):
            faults.append(f"{endpoint[:60]!r} is no address:port")
    return faults


def _site(name: str) -> Peer | None:
    try:
        return Peer(kind=PeerKind.SITE, name=name)
    except ValueError:
        return None
