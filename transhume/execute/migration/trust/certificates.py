"""Certificates as files: reading them, and saying whose they are, from whom, and until when.

Owns the names of the files in an identity's folder and in an authority's. Decides nothing about trust: that
is done by OpenSSL with the contexts of `identity`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from transhume.errors import IdentityUnusable
from transhume.execute.migration.trust.peers import Peer

CA_FILE = "ca.pem"
CA_KEY_FILE = "ca-key.pem"
CERTIFICATE_FILE = "certificate.pem"
KEY_FILE = "key.pem"

ISSUE = "issue one with `transhume ca issue`"
SOON = timedelta(days=14)
"""How long before its end a certificate is told of; of short-lived ones, the last third."""


class Standing(StrEnum):
    """Whether a certificate holds at an instant."""

    VALID = "valid"
    ENDS_SOON = "ends soon"
    EXPIRED = "expired"
    NOT_YET = "not valid yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says."""

    holder: Peer | None
    """None: it names nobody of ours, as that of an authority does."""
    subject: str
    issuer: str
    is_authority: bool
    begins: datetime
    ends: datetime
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal digits."""

    def standing(self, now: datetime) -> Standing:
        """Say whether it holds at an instant, and whether for long."""
        if now < self.begins:
            return Standing.NOT_YET
        if now >= self.ends:
            return Standing.EXPIRED
        ends_soon = self.ends - now <= min(SOON, (self.ends - self.begins) / 3)
        return Standing.ENDS_SOON if ends_soon else Standing.VALID


def read_certificate(path: Path, remedy: str = ISSUE) -> x509.Certificate:
    """Return the one certificate in a PEM file.

    Args:
        path: the file.
        remedy: what to do where there is none.

    Raises:
        IdentityUnusable: there is none, or more than one.
    """
    pem = read_bytes(path, remedy)
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise IdentityUnusable(str(path), "this is no certificate in PEM", remedy) from None
    if len(found) != 1:
        seen = f"{len(found)} certificates where one belongs"
        raise IdentityUnusable(str(path), seen, "leave only the holder's own in it")
    return found[0]


def read_bytes(path: Path, remedy: str) -> bytes:
    """Return what is in a file; `remedy` says what to do where it can't be read.

    Raises:
        IdentityUnusable: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise IdentityUnusable(str(path), error.strerror or str(error), remedy) from None


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """Return what a certificate says; a name that is none of ours counts as none."""
    return CertificateFacts(
        holder=_holder(certificate),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        is_authority=_is_authority(certificate),
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _holder(certificate: x509.Certificate) -> Peer | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (name,) = names
        return (
            Peer.from_uri(name.value) if isinstance(name, x509.UniformResourceIdentifier) else None
        )
    except (x509.ExtensionNotFound, ValueError):
        return None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return found.value.ca
