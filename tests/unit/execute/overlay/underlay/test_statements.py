"""Records of the underlay that are believed, and all the ways of lying that aren't."""

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from tests.unit.execute.migration.trust.meeting import LIFETIME, NOW, operator
from tests.unit.execute.migration.trust.meeting import site as peer
from tests.unit.execute.overlay.underlay.sites import TUNNELS, site
from transhume.execute.migration.trust import PeerKind, init_authority, load_identity
from transhume.execute.overlay.underlay.settings import TunnelNetwork
from transhume.execute.overlay.underlay.statements import (
    AHEAD,
    StatementRefused,
    Statements,
    sign,
)
from transhume.knowledge.codec import encode
from transhume.knowledge.model import IpAddress, SeenEndpoint, SiteName

A, B = (replace(site(name, f"192.0.2.{n}:51820"), at=NOW) for n, name in enumerate("ab", start=1))


@pytest.fixture
def authority(tmp_path):
    return init_authority(tmp_path / "authority", now=NOW)


@pytest.fixture
def identities(authority, tmp_path):
    for name in "abc":
        authority.issue(peer(name), tmp_path / name, lifetime=LIFETIME, now=NOW)
    return {name: load_identity(tmp_path / name, kind=PeerKind.SITE, now=NOW) for name in "abc"}


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def statements(identities, clock):
    return Statements(identities["c"], TUNNELS, clock=clock)


def refused(statements: Statements, record) -> str:
    with pytest.raises(StatementRefused) as caught:
        statements.check(record)
    return str(caught.value)


def test_what_a_site_signs_of_itself_is_believed(statements, identities):
    assert statements.hear(sign(A, identities["a"]))
    assert statements.current() == {"a": A}


def test_the_same_record_again_is_no_news(statements, identities):
    statements.hear(sign(A, identities["a"]))

    assert not statements.hear(sign(A, identities["a"]))


def test_another_site_cannot_speak_for_a_site(statements, identities):
    told = refused(statements, sign(A, identities["b"]))
    assert told == "it is signed by site b"


def test_a_record_of_one_site_cannot_be_put_in_anothers_place(statements, identities):
    record = replace(sign(B, identities["b"]), site=SiteName("a"))
    assert refused(statements, record) == "it is signed by site b"


def test_a_site_cannot_make_a_statement_about_another(statements, identities):
    record = replace(sign(B, identities["a"]), site=SiteName("a"))
    assert refused(statements, record) == "it is about site b"


def test_a_key_that_was_exchanged_is_noticed(statements, identities):
    record = sign(A, identities["a"])
    forged = encode(replace(A, public_key=B.public_key)).decode()
    told = refused(statements, replace(record, statement=forged))
    assert told == "the signature isn't its certificate's"


def test_a_signature_for_another_purpose_is_none_for_this(statements, identities):
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    record = sign(A, identities["a"])
    key = load_pem_private_key((identities["a"].folder / "key.pem").read_bytes(), None)
    bare = key.sign(record.statement.encode(), ec.ECDSA(hashes.SHA256()))
    record = replace(record, signature=base64.b64encode(bare).decode())
    assert refused(statements, record) == "the signature isn't its certificate's"


def test_another_authoritys_certificate_is_refused(statements, tmp_path):
    other = init_authority(tmp_path / "other", now=NOW)
    other.issue(peer("a"), tmp_path / "false", lifetime=LIFETIME, now=NOW)
    false = load_identity(tmp_path / "false", kind=PeerKind.SITE, now=NOW)
    assert refused(statements, sign(A, false)) == "its certificate isn't of our authority"


def test_a_certificate_of_a_version_that_there_isnt_is_refused(statements, identities):
    """Whoever may write to the knowledge can put one there, and all sites read it."""
    record = sign(A, identities["a"])
    der = x509.load_pem_x509_certificate(record.certificate.encode()).public_bytes(Encoding.DER)
    third = bytes.fromhex("a003020102")
    strange = der.replace(third, third[:-1] + b"\x07", 1)
    text = base64.encodebytes(strange).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
    told = refused(statements, replace(record, certificate=pem))
    assert told == "its certificate isn't of our authority"


def test_an_operators_certificate_speaks_for_no_site(statements, authority, tmp_path):
    authority.issue(operator("a"), tmp_path / "operator", lifetime=LIFETIME, now=NOW)
    found = load_identity(tmp_path / "operator", kind=PeerKind.OPERATOR, now=NOW)
    assert refused(statements, sign(A, found)) == "it is signed by operator a"


def test_a_certificate_that_has_ended_is_refused(statements, identities, clock):
    clock.now = NOW + LIFETIME
    assert "its certificate holds from" in refused(statements, sign(A, identities["a"]))


def test_a_site_is_not_believed_beyond_its_certificate(statements, identities, clock):
    statements.hear(sign(A, identities["a"]))
    clock.now = NOW + LIFETIME
    with capture_logs() as logs:
        assert statements.current() == {}
    assert [log["event"] for log in logs] == ["underlay_certificate_ended"]


def test_an_older_record_does_not_come_back(statements, identities):
    old, new = (
        sign(A, identities["a"]),
        sign(replace(A, at=NOW + timedelta(seconds=1)), identities["a"]),
    )
    statements.hear(new)
    assert refused(statements, old) == "it is older than the one before"
    assert not statements.hear(old)


def test_a_record_from_the_future_would_shut_out_all_later_ones(statements, identities):
    future = replace(A, at=NOW + AHEAD + timedelta(seconds=1))
    assert "from the future" in refused(statements, sign(future, identities["a"]))


def test_a_site_cannot_claim_anothers_tunnel_address(statements, identities):
    claim = replace(A, address=B.address)
    assert "it claims the address 100.64.0.2, and has 100.64.0.1" in refused(
        statements, sign(claim, identities["a"])
    )


def test_a_site_cannot_claim_anothers_key(statements, identities):
    statements.hear(sign(B, identities["b"]))
    claim = replace(A, public_key=B.public_key)
    assert refused(statements, sign(claim, identities["a"])) == "it claims the key of site b"


def test_two_names_that_give_one_address_are_told(identities, clock):
    class Crowded(TunnelNetwork):
        def address(self, site):
            return IpAddress("100.64.0.9")

    statements = Statements(identities["c"], Crowded(), clock=clock)
    a, b = (replace(each, address=IpAddress("100.64.0.9")) for each in (A, B))
    statements.hear(sign(a, identities["a"]))
    assert "the address of site a" in refused(statements, sign(b, identities["b"]))


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("192.0.2.1:51820\nprivate_key=00", id="another-line"),
        pytest.param("192.0.2.1", id="no-port"),
        pytest.param("192.0.2.1:0", id="port-zero"),
        pytest.param("192.0.2.1:051820", id="port-misspelt"),
        pytest.param("127.0.0.1:6379", id="our-own-machine"),
        pytest.param("224.0.0.1:51820", id="multicast"),
        pytest.param("255.255.255.255:51820", id="broadcast"),
        pytest.param("[fe80::1%eth0]:51820", id="zone"),
        pytest.param("[2001:db8::1%a\nb=c]:51820", id="line-in-zone"),
        pytest.param("2001:db8::1:51820", id="no-brackets"),
        pytest.param("[192.0.2.1]:51820", id="brackets"),
        pytest.param("example.org:51820", id="name"),
        pytest.param("192.0.2.1:٥١٨٢٠", id="foreign-digits"),
        pytest.param("192.0.2.1:" + "1" * 5000, id="endless-port"),
    ],
)
def test_what_is_no_endpoint_never_gets_near_a_device(statements, identities, endpoint):
    seen = (SeenEndpoint(site=SiteName("b"), endpoint=endpoint),)
    for lie in (replace(A, endpoints=(endpoint,)), replace(A, seen=seen)):
        assert "is no address:port" in refused(statements, sign(lie, identities["a"]))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"public_key": "AAAA"}, id="short-key"),
        pytest.param({"public_key": "!" * 44}, id="no-base64"),
        pytest.param({"port": 0}, id="no-port"),
        pytest.param({"endpoints": ("192.0.2.1:1",) * 100}, id="many-endpoints"),
    ],
)
def test_damaged_records_are_refused_whoever_signed_them(statements, identities, change):
    assert refused(statements, sign(replace(A, **change), identities["a"]))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"certificate": ""}, id="no-certificate"),
        pytest.param({"certificate": "-----BEGIN CERTIFICATE-----"}, id="half-a-certificate"),
        pytest.param({"signature": "§"}, id="signature-no-base64"),
        pytest.param({"signature": ""}, id="no-signature"),
        pytest.param({"statement": "{}"}, id="another-statement"),
        pytest.param({"statement": "\ud800"}, id="no-text"),
        pytest.param({"site": SiteName("no name/")}, id="no-site"),
    ],
)
def test_damaged_envelopes_are_refused(statements, identities, damage):
    assert refused(statements, replace(sign(A, identities["a"]), **damage))


def test_fields_that_a_newer_version_added_are_passed_over(statements, identities, monkeypatch):
    """The signature is over what was written, not over what we read of it."""
    later = json.dumps(json.loads(encode(A)) | {"colour": "blue"}).encode()
    monkeypatch.setattr(
        "transhume.execute.overlay.underlay.statements.encode", lambda _statement: later
    )
    assert statements.check(sign(A, identities["a"])).statement == A


def test_a_refusal_is_logged_once_a_reason(statements, identities):
    false = sign(A, identities["b"])
    with capture_logs() as logs:
        assert not statements.hear(false)
        assert not statements.hear(false)
    assert [(log["event"], log["site"], log["why"]) for log in logs] == [
        ("underlay_statement_refused", "a", "it is signed by site b")
    ]


def test_a_refused_record_leaves_the_one_before_in_force(statements, identities):
    statements.hear(sign(A, identities["a"]))
    statements.hear(sign(replace(A, public_key=B.public_key), identities["b"]))

    assert statements.current() == {"a": A}


def test_a_renewed_certificate_is_shown_from_the_next_record_on(
    authority, statements, identities, clock
):
    clock.now = NOW + LIFETIME
    authority.renew(identities["a"].folder, lifetime=LIFETIME, now=clock.now)

    assert statements.hear(sign(A, identities["a"]))
