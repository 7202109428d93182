"""An identity in a folder: what is wrong with one is told before anybody connects."""

import shutil
import ssl
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from tests.unit.execute.migration.trust.meeting import LIFETIME, NOW, operator, site
from transhume.errors import IdentityUnusable
from transhume.execute.migration.trust import PeerKind, init_authority, load_identity

DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path):
    return init_authority(tmp_path / "authority", now=NOW)


@pytest.fixture
def folder(authority, tmp_path):
    authority.issue(site("b"), tmp_path / "b", lifetime=LIFETIME, now=NOW)
    return tmp_path / "b"


def unusable(folder, *, kind=PeerKind.SITE, now=NOW) -> str:
    with pytest.raises(IdentityUnusable) as caught:
        load_identity(folder, kind=kind, now=now)
    return str(caught.value)


def test_an_identity_says_whose_it_is_and_until_when(folder) -> None:
    with capture_logs() as logs:
        identity = load_identity(folder, kind=PeerKind.SITE, now=NOW)
    assert identity.peer == site("b")
    assert identity.facts.ends == (NOW + LIFETIME).replace(microsecond=0)
    assert logs == []


@pytest.mark.parametrize("missing", ["certificate.pem", "key.pem", "ca.pem"])
def test_a_missing_file_is_told(folder, missing) -> None:
    (folder / missing).unlink()
    told = unusable(folder)
    assert told.startswith(f"{folder / missing}: No such file or directory; issue one with")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\x00 no PEM", id="bytes"),
        pytest.param(
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", id="no DER"
        ),
    ],
)
@pytest.mark.parametrize("file", ["certificate.pem", "key.pem", "ca.pem"])
def test_a_file_of_something_else_is_told(folder, file, content) -> None:
    (folder / file).write_bytes(content)
    assert unusable(folder).startswith(f"{folder / file}: this is no ")


def test_more_than_one_certificate_is_told(folder) -> None:
    both = (folder / "certificate.pem").read_bytes() + (folder / "ca.pem").read_bytes()
    (folder / "certificate.pem").write_bytes(both)
    assert "2 certificates where one belongs" in unusable(folder)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_may_read_or_change_isnt_used(folder, mode) -> None:
    (folder / "key.pem").chmod(mode)
    told = unusable(folder)
    assert f"others may read or change this key (mode {mode:04o}); chmod 600" in told


def test_the_key_of_another_certificate_is_told(authority, folder, tmp_path) -> None:
    authority.issue(site("c"), tmp_path / "c", lifetime=LIFETIME, now=NOW)
    shutil.copy(tmp_path / "c" / "key.pem", folder / "key.pem")
    assert "not that of the certificate beside it" in unusable(folder)


def test_a_key_with_a_password_is_told(folder) -> None:
    """A gateway starts without a person who could type it."""
    key = load_pem_private_key((folder / "key.pem").read_bytes(), password=None)
    closed = BestAvailableEncryption(b"secret")
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, closed))
    assert "no plain private key" in unusable(folder)


def test_a_key_of_another_kind_is_told(folder) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    assert "not that of the certificate beside it" in unusable(folder)


def test_the_certificate_of_another_authority_is_told(folder, tmp_path) -> None:
    init_authority(tmp_path / "other", now=NOW)
    shutil.copy(tmp_path / "other" / "ca.pem", folder / "ca.pem")
    assert "not issued by the authority" in unusable(folder)


def test_a_certificate_of_no_authority_in_its_place_is_told(folder) -> None:
    shutil.copy(folder / "certificate.pem", folder / "ca.pem")
    assert "this is no authority's certificate" in unusable(folder)


def test_the_authoritys_own_certificate_is_nobodys_identity(folder) -> None:
    shutil.copy(folder / "ca.pem", folder / "certificate.pem")
    assert "this names no site, host or operator" in unusable(folder)


def test_an_operators_certificate_is_no_sites(authority, tmp_path) -> None:
    authority.issue(operator("anne"), tmp_path / "anne", lifetime=LIFETIME, now=NOW)
    told = unusable(tmp_path / "anne")
    assert "this is the certificate of operator anne, where one of kind site belongs" in told
    assert told.endswith("issue one with `transhume ca issue --site NAME`")


def test_a_certificate_that_has_expired_is_told_and_not_used(folder) -> None:
    told = unusable(folder, now=NOW + LIFETIME)
    ends = (NOW + LIFETIME).isoformat(timespec="seconds")
    assert f"expired at {ends}; issue one with" in told


def test_a_certificate_of_the_future_is_told_and_not_used(folder) -> None:
    assert "set this machine's clock right" in unusable(folder, now=NOW - DAY)


def test_clocks_may_differ_by_some_minutes(folder) -> None:
    assert load_identity(folder, kind=PeerKind.SITE, now=NOW - timedelta(minutes=9))


def test_an_authority_that_has_expired_is_told(folder) -> None:
    assert "ca.pem: expired at" in unusable(folder, now=NOW + 3654 * DAY)


@pytest.mark.parametrize(
    ("lifetime", "left", "warned"),
    [
        pytest.param(90 * DAY, 15 * DAY, False, id="90 days, 15 left"),
        pytest.param(90 * DAY, 13 * DAY, True, id="90 days, 13 left"),
        pytest.param(3 * DAY, 2 * DAY, False, id="3 days, 2 left"),
        pytest.param(3 * DAY, DAY, True, id="3 days, 1 left"),
    ],
)
def test_a_certificate_that_ends_soon_is_logged(
    authority, tmp_path, lifetime, left, warned
) -> None:
    authority.issue(site("d"), tmp_path / "d", lifetime=lifetime, now=NOW)
    with capture_logs() as logs:
        load_identity(tmp_path / "d", kind=PeerKind.SITE, now=NOW + lifetime - left)
    assert [each["event"] for each in logs] == ["certificate_ends_soon"] * warned


def test_files_that_go_missing_later_are_told_as_well(folder) -> None:
    identity = load_identity(folder, kind=PeerKind.SITE, now=NOW)
    (folder / "ca.pem").unlink()
    with pytest.raises(IdentityUnusable, match=r"ca\.pem"):
        identity.server_context()


def test_a_key_that_no_longer_fits_is_told_before_a_context_in_use_has_it(
    authority, folder, tmp_path
) -> None:
    identity = load_identity(folder, kind=PeerKind.SITE, now=NOW)
    context = identity.server_context()
    authority.issue(site("c"), tmp_path / "c", lifetime=LIFETIME, now=NOW)
    shutil.copy(tmp_path / "c" / "key.pem", folder / "key.pem")
    with pytest.raises(IdentityUnusable, match="OpenSSL doesn't take"):
        identity.equip(context)


def test_contexts_know_no_authority_but_ours(folder) -> None:
    identity = load_identity(folder, kind=PeerKind.SITE, now=NOW)
    for context in (identity.server_context(), identity.client_context()):
        assert context.cert_store_stats()["x509_ca"] == 1
        assert context.verify_mode is ssl.CERT_REQUIRED
