"""Who is let in over a real TLS connection, and who is not: at both ends."""

import asyncio
import ssl
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.unit.execute.migration.trust.meeting import (
    LIFETIME,
    NOW,
    Forgery,
    Outcome,
    meet,
    operator,
    plain_client,
    plain_server,
    site,
)
from transhume.errors import PeerRefused
from transhume.execute.migration.trust import (
    Authority,
    Identity,
    Peer,
    PeerKind,
    expect_kind,
    expect_peer,
    init_authority,
    load_identity,
    peer_of,
    read_certificate,
)

LONG_AGO = NOW - timedelta(days=365)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def assert_not_let_in(found: Outcome) -> None:
    """A client hears an alert, a reset or the end, by how fast its peer has gone."""
    assert isinstance(found, (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)), found


class Sites:
    """An authority, and identities of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = init_authority(folder / "authority", now=LONG_AGO)

    @property
    def ca(self) -> Path:
        return self.folder / "authority" / "ca.pem"

    def folder_of(self, peer: Peer, *, began=NOW) -> Path:
        folder = self.folder / f"{peer.kind}-{peer.name}"
        self.authority.issue(peer, folder, lifetime=LIFETIME, now=began)
        return folder

    def identity(self, peer: Peer) -> Identity:
        return load_identity(self.folder_of(peer), kind=peer.kind)


class End:
    """One end of a connection that goes from hand to hand."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side)

    def hears(self, other: "End") -> None:
        self.incoming.write(other.outgoing.read())


def shaken_hands(b: Identity, c: Identity) -> tuple[End, End]:
    server = End(b.server_context(), server_side=True)
    client = End(c.client_context(), server_side=False)
    for _ in range(3):
        for end, other in ((client, server), (server, client)):
            with suppress(ssl.SSLWantReadError):
                end.tls.do_handshake()
            other.hears(end)
    return server, client


@pytest.fixture
def sites(tmp_path) -> Sites:
    return Sites(tmp_path / "ours")


@pytest.fixture
def strangers(tmp_path) -> Sites:
    return Sites(tmp_path / "strangers")


async def test_two_sites_of_one_authority_find_each_other(sites) -> None:
    b, c = sites.identity(site("b")), sites.identity(site("c"))
    found = await meet(b.server_context(), c.client_context())
    assert found == (site("c"), site("b"))


async def test_two_sites_find_each_other_over_loopback(sites) -> None:
    """As gateways do it: a listening server, and the streams of asyncio."""
    b, c = sites.identity(site("b")), sites.identity(site("c"))
    seen: list[Peer] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(peer_of(writer.get_extra_info("ssl_object")))
        writer.write(await reader.readexactly(4))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=b.server_context()) as server:
        port = server.sockets[0].getsockname()[1]
        context = c.client_context()
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=""
        )
        tls = writer.get_extra_info("ssl_object")
        assert expect_peer(tls, site("b")) == site("b")
        assert tls.version() == "TLSv1.3"
        writer.write(b"ping")
        assert await reader.read() == b"ping"
        writer.close()
        await writer.wait_closed()
    assert seen == [site("c")]


async def test_a_site_with_a_name_beyond_ascii_is_found(sites) -> None:
    b, c = sites.identity(site("büro-1%")), sites.identity(site("c"))
    _, seen_by_client = await meet(b.server_context(), c.client_context())
    assert seen_by_client == site("büro-1%")


async def test_a_client_of_an_unknown_authority_is_refused(sites, strangers) -> None:
    b, stranger = sites.identity(site("b")), strangers.folder_of(site("c"))
    served, called = await meet(b.server_context(), plain_client(sites.ca, stranger))
    assert isinstance(served, ssl.SSLError)
    assert_not_let_in(called)


async def test_a_server_of_an_unknown_authority_is_refused(sites, strangers) -> None:
    c, stranger = sites.identity(site("c")), strangers.folder_of(site("b"))
    served, called = await meet(plain_server(sites.ca, stranger), c.client_context())
    assert isinstance(called, ssl.SSLCertVerificationError)
    assert_not_let_in(served)


async def test_a_client_whose_certificate_has_expired_is_refused(sites) -> None:
    b, expired = sites.identity(site("b")), sites.folder_of(site("c"), began=LONG_AGO)
    served, called = await meet(b.server_context(), plain_client(sites.ca, expired))
    assert isinstance(served, ssl.SSLCertVerificationError)
    assert "expired" in str(served)
    assert_not_let_in(called)


async def test_a_server_whose_certificate_has_expired_is_refused(sites) -> None:
    c, expired = sites.identity(site("c")), sites.folder_of(site("b"), began=LONG_AGO)
    served, called = await meet(plain_server(sites.ca, expired), c.client_context())
    assert isinstance(called, ssl.SSLCertVerificationError)
    assert "expired" in str(called)
    assert_not_let_in(served)


async def test_a_certificate_that_its_holder_has_signed_is_refused_at_both_ends(
    sites, tmp_path
) -> None:
    b, c = sites.identity(site("b")), sites.identity(site("c"))
    forged = Forgery(names=(uri(site("c").uri),)).write(tmp_path / "forged")
    served, called = await meet(b.server_context(), plain_client(sites.ca, forged))
    assert isinstance(served, ssl.SSLCertVerificationError)
    assert_not_let_in(called)
    served, called = await meet(plain_server(sites.ca, forged), c.client_context())
    assert isinstance(called, ssl.SSLCertVerificationError)
    assert_not_let_in(served)


async def test_a_certificate_that_another_site_has_signed_is_refused(sites, tmp_path) -> None:
    """A site's key must not make sites, though a chain leads from it to the authority."""
    b, mallory = sites.identity(site("b")), sites.folder_of(site("mallory"))
    signer = Authority(
        certificate=read_certificate(mallory / "certificate.pem"),
        key=load_pem_private_key((mallory / "key.pem").read_bytes(), password=None),
    )
    forgery = Forgery(names=(uri(site("c").uri),), issuer=signer, chain=(signer.certificate,))
    forged = forgery.write(tmp_path / "forged")
    served, called = await meet(b.server_context(), plain_client(sites.ca, forged))
    assert isinstance(served, ssl.SSLCertVerificationError)
    assert_not_let_in(called)


async def test_a_client_without_a_certificate_is_refused(sites) -> None:
    b = sites.identity(site("b"))
    served, called = await meet(b.server_context(), plain_client(sites.ca, None))
    assert isinstance(served, ssl.SSLError)
    assert "PEER_DID_NOT_RETURN_A_CERTIFICATE" in str(served)
    assert_not_let_in(called)


async def test_a_client_that_knows_only_older_tls_is_refused(sites) -> None:
    b, folder = sites.identity(site("b")), sites.folder_of(site("c"))
    old = plain_client(sites.ca, folder)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    served, called = await meet(b.server_context(), old)
    assert isinstance(served, ssl.SSLError)
    assert_not_let_in(called)


async def test_a_server_that_knows_only_older_tls_is_refused(sites) -> None:
    c, folder = sites.identity(site("c")), sites.folder_of(site("b"))
    old = plain_server(sites.ca, folder)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    served, called = await meet(old, c.client_context())
    assert isinstance(served, ssl.SSLError)
    assert_not_let_in(called)


async def test_an_operator_is_refused_where_a_site_is_asked_for(sites) -> None:
    b, anne = sites.identity(site("b")), sites.identity(operator("anne"))
    served, called = await meet(
        b.server_context(),
        anne.client_context(),
        server_checks=partial(expect_kind, kind=PeerKind.SITE),
    )
    assert isinstance(served, PeerRefused)
    assert "operator anne is there" in str(served)
    assert_not_let_in(called)


async def test_a_site_is_refused_where_an_operator_is_asked_for(sites) -> None:
    b, c = sites.identity(site("b")), sites.identity(site("c"))
    served, called = await meet(
        b.server_context(),
        c.client_context(),
        server_checks=partial(expect_kind, kind=PeerKind.OPERATOR),
    )
    assert isinstance(served, PeerRefused)
    assert_not_let_in(called)


async def test_an_operator_is_let_in_where_one_is_asked_for(sites) -> None:
    b, anne = sites.identity(site("b")), sites.identity(operator("anne"))
    served, called = await meet(
        b.server_context(),
        anne.client_context(),
        server_checks=partial(expect_kind, kind=PeerKind.OPERATOR),
    )
    assert (served, called) == (operator("anne"), site("b"))


async def test_nobody_can_listen_with_the_certificate_of_an_operator(sites) -> None:
    c, anne = sites.identity(site("c")), sites.folder_of(operator("anne"))
    served, called = await meet(plain_server(sites.ca, anne), c.client_context())
    assert isinstance(called, ssl.SSLCertVerificationError)
    assert_not_let_in(served)


async def test_a_site_is_refused_where_another_was_expected(sites) -> None:
    b, d = sites.identity(site("b")), sites.identity(site("d"))
    _, called = await meet(
        b.server_context(),
        d.client_context(),
        client_checks=partial(expect_peer, expected=site("c")),
    )
    assert isinstance(called, PeerRefused)
    assert str(called) == (
        "site c was expected at the other end of a connection, but site b is there"
    )


@pytest.mark.parametrize(
    "names",
    [
        pytest.param((), id="none"),
        pytest.param((x509.DNSName("c"),), id="a host"),
        pytest.param((uri("https://site/c"),), id="another scheme"),
        pytest.param((uri("transhume://site/c"), uri("transhume://site/d")), id="two sites"),
        pytest.param((uri("transhume://site/c"), x509.DNSName("c")), id="a site and a host"),
        pytest.param((uri("transhume://king/c"),), id="another kind"),
        pytest.param((uri("transhume://site/"),), id="no name"),
        pytest.param((uri("transhume://site/%63"),), id="needless escapes"),
        pytest.param((uri("transhume://site/c%2Fd"),), id="a slash"),
        pytest.param((uri("transhume://site/c%00"),), id="a zero byte"),
        pytest.param((uri("transhume://site/c\x00"),), id="a zero byte as it is"),
        pytest.param((uri("transhume://site/%FF"),), id="no UTF-8"),
        pytest.param((uri("transhume://SITE/c"),), id="another case"),
    ],
)
async def test_a_certificate_that_doesnt_name_one_peer_is_refused(sites, tmp_path, names) -> None:
    """Though the authority itself has signed it: it may sign other things than ours."""
    b = sites.identity(site("b"))
    forged = Forgery(names=names, issuer=sites.authority).write(tmp_path / "forged")
    served, called = await meet(b.server_context(), plain_client(sites.ca, forged))
    assert isinstance(served, PeerRefused)
    assert_not_let_in(called)


async def test_a_listener_shows_a_renewed_certificate_to_whoever_comes_next(sites) -> None:
    folder = sites.folder_of(site("b"), began=NOW - timedelta(days=80))
    c, context = (
        sites.identity(site("c")),
        load_identity(folder, kind=PeerKind.SITE).server_context(),
    )
    shown: list[bytes | None] = []

    def look(tls: ssl.SSLObject) -> Peer:
        shown.append(tls.getpeercert(binary_form=True))
        return peer_of(tls)

    await meet(context, c.client_context(), client_checks=look)
    sites.authority.renew(folder, lifetime=LIFETIME, now=NOW)
    load_identity(folder, kind=PeerKind.SITE).equip(context)
    served, called = await meet(context, c.client_context(), client_checks=look)
    assert (served, called) == (site("c"), site("b"))
    assert shown[0] != shown[1]


def test_no_session_is_resumed_past_the_check_of_a_certificate(sites) -> None:
    """A server would offer one with its first words, after the handshake."""
    server, client = shaken_hands(sites.identity(site("b")), sites.identity(site("c")))
    server.tls.write(b"!")
    client.hears(server)
    assert client.tls.read(1) == b"!"
    assert client.tls.session is None or not client.tls.session.has_ticket


def test_contexts_leave_no_keys_in_a_log(sites, tmp_path, monkeypatch) -> None:
    """The environment of a process must not make it write what decrypts its connections."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    b = sites.identity(site("b"))
    assert b.server_context().keylog_filename is None
    assert b.client_context().keylog_filename is None


def test_nobody_is_at_the_other_end_before_the_handshake(sites) -> None:
    ends = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = sites.identity(site("b")).client_context().wrap_bio(*ends)
    with pytest.raises(PeerRefused, match="nothing readable is shown"):
        peer_of(connection)
