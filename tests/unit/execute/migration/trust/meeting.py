"""Two ends of a connection that meet with real TLS, and what each makes of the other."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transhume.errors import PeerRefused
from transhume.execute.migration.trust import Authority, Peer, PeerKind, peer_of

NOW = datetime.now(UTC)
LIFETIME = timedelta(days=90)
HELLO = b"!"

Outcome = Peer | Exception
Check = Callable[[ssl.SSLObject], Peer]


def site(name: str) -> Peer:
    return Peer(kind=PeerKind.SITE, name=name)


def operator(name: str) -> Peer:
    return Peer(kind=PeerKind.OPERATOR, name=name)


async def meet(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    *,
    server_checks: Check = peer_of,
    client_checks: Check = peer_of,
) -> tuple[Outcome, Outcome]:
    """Connect two contexts; return whom the server, and whom the client found, or why not.

    The server says hello when it is content with its client; a client without a hello wasn't let in.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        async with asyncio.timeout(20):
            served, called = await asyncio.gather(
                _serve(ours, server, server_checks), _call(theirs, client, client_checks)
            )
            return served, called


async def _serve(end: socket.socket, context: ssl.SSLContext, check: Check) -> Outcome:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, end, ssl=context)
    except OSError as error:
        return error
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    try:
        peer = check(writer.get_extra_info("ssl_object"))
        writer.write(HELLO)
        await reader.read()
        return peer
    except (PeerRefused, OSError) as error:
        return error
    finally:
        await _close(writer)


async def _call(end: socket.socket, context: ssl.SSLContext, check: Check) -> Outcome:
    try:
        reader, writer = await asyncio.open_connection(sock=end, ssl=context, server_hostname="")
    except OSError as error:
        return error
    try:
        peer = check(writer.get_extra_info("ssl_object"))
        await reader.readexactly(len(HELLO))
        return peer
    except (PeerRefused, OSError, asyncio.IncompleteReadError) as error:
        return error
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def plain_client(authority: Path, identity: Path | None) -> ssl.SSLContext:
    """Make what a client shows that doesn't look at its own certificate first, or has none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _filled(context, authority, identity)


def plain_server(authority: Path, identity: Path) -> ssl.SSLContext:
    """Make what a server shows that doesn't look at its own certificate first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _filled(context, authority, identity)


def _filled(context: ssl.SSLContext, authority: Path, identity: Path | None) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    if identity is not None:
        context.load_cert_chain(identity / "certificate.pem", identity / "key.pem")
    return context


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """A certificate that no authority of ours would issue."""

    names: tuple[x509.GeneralName, ...]
    issuer: Authority | None = None
    """None: signed by its own key."""
    chain: tuple[x509.Certificate, ...] = ()

    def write(self, folder: Path) -> Path:
        """Write the certificate and its key into a folder, as an identity has them."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(key)
        folder.mkdir()
        pem = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *self.chain))
        (folder / "certificate.pem").write_bytes(pem)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(secret)
        (folder / "key.pem").chmod(0o600)
        return folder

    def _certificate(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")])
        signer = self.issuer.key if self.issuer else key
        public = key.public_key()
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.issuer.certificate.subject if self.issuer else subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(hours=1))
            .not_valid_after(NOW + timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
                critical=False,
            )
        )
        if self.names:
            builder = builder.add_extension(x509.SubjectAlternativeName(self.names), critical=False)
        return builder.sign(signer, hashes.SHA256())
