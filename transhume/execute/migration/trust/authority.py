"""A small certificate authority: makes itself, and certificates for sites and operators.

Owns what stands in a certificate. Keys are ECDSA on P-256, which every OpenSSL with TLS 1.3 takes. A holder is
named by one URI and nothing else; a site's certificate serves at both ends of a connection, an operator's only
at the end that connects. Each certificate begins some minutes ago, for peers whose clocks are behind.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transhume.errors import IdentityUnusable, UsageError
from transhume.execute.migration.trust.certificates import (
    CA_FILE,
    CA_KEY_FILE,
    CERTIFICATE_FILE,
    ISSUE,
    KEY_FILE,
    facts_of,
    read_bytes,
    read_certificate,
)
from transhume.execute.migration.trust.checking import check_issuer, check_key, check_standing
from transhume.execute.migration.trust.folders import PUBLIC, SECRET, File, make_folder, replace
from transhume.execute.migration.trust.peers import Peer, PeerKind

AUTHORITY_LIFETIME = timedelta(days=3653)
DEFAULT_LIFETIME = timedelta(days=90)
BACKDATED = timedelta(minutes=10)

_INIT = "make an authority with `transhume ca init`"
_LONGEST_COMMON_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Whoever has its key decides who is a site, and who an operator."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def issue(self, peer: Peer, folder: Path, *, lifetime: timedelta, now: datetime) -> None:
        """Make a folder with a new key, a certificate for it, and the authority's certificate.

        The folder appears whole or not at all, with mode 0700.

        Raises:
            UsageError: the folder has something in it already, can't be made, or the certificate would outlive
                its authority.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(peer, key.public_key(), lifetime, now)
        make_folder(
            folder,
            File(name=KEY_FILE, content=_pem_of(key), mode=SECRET),
            File(name=CERTIFICATE_FILE, content=_pem(certificate), mode=PUBLIC),
            File(name=CA_FILE, content=_pem(self.certificate), mode=PUBLIC),
        )

    def renew(self, folder: Path, *, lifetime: timedelta, now: datetime) -> Peer:
        """Replace the certificate in a folder by a later one for the same holder and key; return the holder.

        Raises:
            IdentityUnusable: the folder holds no certificate of this authority.
            UsageError: it can't be written, or the certificate would outlive its authority.
        """
        path = folder / CERTIFICATE_FILE
        old = read_certificate(path)
        check_issuer(path, old, self.certificate, "renew it with the authority that issued it")
        holder, key = facts_of(old).holder, old.public_key()
        if holder is None or not isinstance(key, ec.EllipticCurvePublicKey):
            raise IdentityUnusable(str(path), "this names no site, host or operator", ISSUE)
        replace(path, _pem(self._certificate(holder, key, lifetime, now)), PUBLIC)
        return holder

    def _certificate(
        self, peer: Peer, key: ec.EllipticCurvePublicKey, lifetime: timedelta, now: datetime
    ) -> x509.Certificate:
        ends = now + lifetime
        if lifetime <= timedelta(0) or ends > self.certificate.not_valid_after_utc:
            latest = self.certificate.not_valid_after_utc.isoformat(timespec="seconds")
            raise UsageError(
                f"a certificate until {ends.isoformat(timespec='seconds')} can't be issued: it has to end "
                f"in the future, and not after its authority ({latest})"
            )
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if peer.kind is PeerKind.SITE:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(_name(str(peer)), self.certificate.subject, key, now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_identifier_of(self.key.public_key()), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(peer.uri)]),
                critical=False,
            )
        )
        return builder.sign(self.key, hashes.SHA256())


def init_authority(folder: Path, *, now: datetime | None = None) -> Authority:
    """Make a new authority in a folder of its own, which appears whole or not at all, with mode 0700.

    Raises:
        UsageError: the folder has something in it already, or can't be made.
    """
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    digest = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    name = _name(f"authority {digest[:6].hex()}")
    certificate = (
        _builder(name, name, key.public_key(), now, now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    make_folder(
        folder,
        File(name=CA_KEY_FILE, content=_pem_of(key), mode=SECRET),
        File(name=CA_FILE, content=_pem(certificate), mode=PUBLIC),
    )
    return Authority(certificate=certificate, key=key)


def load_authority(folder: Path, *, now: datetime | None = None) -> Authority:
    """Return the authority in a folder.

    Raises:
        IdentityUnusable: there is none, it has run out, or its key is another's or may be read by others.
    """
    now = now or datetime.now(UTC)
    certificate = read_certificate(folder / CA_FILE, _INIT)
    check_standing(folder / CA_FILE, facts_of(certificate), now, _INIT)
    check_key(folder / CA_KEY_FILE, certificate, _INIT)
    key = load_pem_private_key(read_bytes(folder / CA_KEY_FILE, _INIT), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not facts_of(certificate).is_authority:
        raise IdentityUnusable(str(folder), "this holds no authority of ours", _INIT)
    return Authority(certificate=certificate, key=key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _identifier_of(key: ec.EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _name(words: str) -> x509.Name:
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, words[:_LONGEST_COMMON_NAME])
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Transhume"), common_name])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
