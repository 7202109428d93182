"""What can be wrong with certificates and keys in files, found before anybody connects.

Owns the messages that say what to do about it. What is checked in a handshake is OpenSSL's business, with the
contexts of `identity`.
"""

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from transhume.errors import IdentityUnusable
from transhume.execute.migration.trust.certificates import (
    ISSUE,
    CertificateFacts,
    Standing,
    read_bytes,
)


def check_key(path: Path, certificate: x509.Certificate, remedy: str = ISSUE) -> None:
    """See that a key is the certificate's, and nobody else's to read.

    Raises:
        IdentityUnusable: it isn't.
    """
    pem = read_bytes(path, remedy)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        seen = f"others may read or change this key (mode {mode:04o})"
        raise IdentityUnusable(str(path), seen, f"chmod 600 {path}, or issue another")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise IdentityUnusable(str(path), "this is no plain private key in PEM", remedy) from None
    if key.public_key() != certificate.public_key():
        seen = "this key is not that of the certificate beside it"
        raise IdentityUnusable(
            str(path), seen, "keep the two files of one `transhume ca issue` together"
        )


def check_standing(path: Path, facts: CertificateFacts, now: datetime, remedy: str) -> None:
    """See that a certificate holds now.

    Raises:
        IdentityUnusable: it has run out, or hasn't begun.
    """
    match facts.standing(now):
        case Standing.EXPIRED:
            seen = f"expired at {facts.ends.isoformat(timespec='seconds')}"
            raise IdentityUnusable(str(path), seen, remedy)
        case Standing.NOT_YET:
            seen = f"not valid before {facts.begins.isoformat(timespec='seconds')}"
            raise IdentityUnusable(str(path), seen, "set this machine's clock right, or wait")
        case Standing.VALID | Standing.ENDS_SOON:
            return


def check_issuer(
    path: Path, certificate: x509.Certificate, authority: x509.Certificate, remedy: str = ISSUE
) -> None:
    """See that an authority has signed a certificate.

    Raises:
        IdentityUnusable: it hasn't.
    """
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        name = authority.subject.rfc4514_string()
        raise IdentityUnusable(str(path), f"not issued by the authority {name}", remedy) from None
