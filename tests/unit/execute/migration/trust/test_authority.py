"""The authority: what it puts into certificates and folders, and what it doesn't touch."""

import os
import shutil
import stat
import subprocess
from datetime import timedelta
from itertools import pairwise

import pytest
from cryptography import x509

from tests.unit.execute.migration.trust.meeting import LIFETIME, NOW, Forgery, operator, site
from transhume.errors import IdentityUnusable, UsageError
from transhume.execute.migration.trust import (
    PeerKind,
    facts_of,
    init_authority,
    load_authority,
    load_identity,
    read_certificate,
)

YEARS_10 = timedelta(days=3653)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "authority"


@pytest.fixture
def authority(folder):
    return init_authority(folder, now=NOW)


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids="{:03o}".format)
def test_keys_are_for_their_owner_only_whatever_the_umask(tmp_path, umask) -> None:
    before = os.umask(umask)
    try:
        authority = init_authority(tmp_path / "ca", now=NOW)
        authority.issue(site("b"), tmp_path / "b", lifetime=LIFETIME, now=NOW)
    finally:
        os.umask(before)
    for folder, key in ((tmp_path / "ca", "ca-key.pem"), (tmp_path / "b", "key.pem")):
        assert mode(folder) == 0o700
        assert mode(folder / key) == 0o600
        assert mode(folder / "ca.pem") == 0o644


def test_an_authority_is_found_again_in_its_folder(authority, folder, tmp_path) -> None:
    found = load_authority(folder, now=NOW)
    assert found.certificate == authority.certificate
    found.issue(site("b"), tmp_path / "b", lifetime=LIFETIME, now=NOW)
    assert load_identity(tmp_path / "b", kind=PeerKind.SITE, now=NOW).peer == site("b")


def test_two_authorities_have_different_names(authority, tmp_path) -> None:
    other = init_authority(tmp_path / "other", now=NOW)
    assert other.certificate.subject != authority.certificate.subject


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl to ask")
@pytest.mark.parametrize("peer", [site("b"), operator("anne")], ids=str)
def test_what_is_issued_passes_the_strict_check_of_openssl(
    authority, folder, tmp_path, peer
) -> None:
    """By the program, which shares no code with what made the certificate."""
    authority.issue(peer, tmp_path / "out", lifetime=LIFETIME, now=NOW)
    verified = [
        *("openssl", "verify", "-x509_strict", "-purpose", "sslclient"),
        *("-CAfile", folder / "ca.pem", tmp_path / "out" / "certificate.pem"),
    ]
    assert subprocess.run(verified, check=True, capture_output=True).stdout.endswith(b": OK\n")


def test_certificates_say_whose_they_are_and_how_long_they_hold(authority, tmp_path) -> None:
    authority.issue(site("b"), tmp_path / "b", lifetime=LIFETIME, now=NOW)
    facts = facts_of(read_certificate(tmp_path / "b" / "certificate.pem"))
    whole = NOW.replace(microsecond=0)
    assert facts.holder == site("b")
    assert not facts.is_authority
    assert timedelta(minutes=5) <= whole - facts.begins <= timedelta(minutes=15)
    assert facts.ends == whole + LIFETIME
    root = facts_of(authority.certificate)
    assert (root.holder, root.is_authority, root.ends) == (None, True, whole + YEARS_10)
    assert facts.issuer == root.subject


def test_an_authority_is_never_made_over_another(authority, folder) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="is there already, and nothing is written over it"):
        init_authority(folder, now=NOW)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("in_the_way", ["folder", "file"])
def test_nothing_is_issued_over_what_is_there(authority, tmp_path, in_the_way) -> None:
    out = tmp_path / "out"
    if in_the_way == "folder":
        out.mkdir()
        (out / "anything").touch()
    else:
        out.touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match="name a new folder"):
        authority.issue(site("b"), out, lifetime=LIFETIME, now=NOW)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled_and_closed(authority, tmp_path) -> None:
    (tmp_path / "out").mkdir(mode=0o755)
    authority.issue(site("b"), tmp_path / "out", lifetime=LIFETIME, now=NOW)
    assert mode(tmp_path / "out") == 0o700


def test_a_folder_that_cant_be_made_is_told(authority, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file"):
        authority.issue(site("b"), tmp_path / "file" / "b", lifetime=LIFETIME, now=NOW)


@pytest.mark.parametrize(
    "lifetime", [timedelta(0), -LIFETIME, YEARS_10 + timedelta(days=1)], ids=["0", "past", "long"]
)
def test_a_certificate_ends_in_the_future_and_not_after_its_authority(
    authority, tmp_path, lifetime
) -> None:
    with pytest.raises(UsageError, match="not after its authority"):
        authority.issue(site("b"), tmp_path / "b", lifetime=lifetime, now=NOW)
    assert not (tmp_path / "b").exists()


def test_each_certificate_has_a_key_and_a_number_of_its_own(authority, tmp_path) -> None:
    found = []
    for name in "bcd":
        authority.issue(site(name), tmp_path / name, lifetime=LIFETIME, now=NOW)
        found.append(read_certificate(tmp_path / name / "certificate.pem"))
    for one, next_one in pairwise(found):
        assert one.serial_number != next_one.serial_number
        assert one.public_key() != next_one.public_key()


def test_a_renewal_keeps_the_holder_and_the_key(authority, tmp_path) -> None:
    out = tmp_path / "b"
    authority.issue(site("b"), out, lifetime=LIFETIME, now=NOW)
    key, inode = (out / "key.pem").read_bytes(), (out / "key.pem").stat().st_ino
    later = NOW + timedelta(days=80)
    assert authority.renew(out, lifetime=LIFETIME, now=later) == site("b")
    assert ((out / "key.pem").read_bytes(), (out / "key.pem").stat().st_ino) == (key, inode)
    facts = load_identity(out, kind=PeerKind.SITE, now=later).facts
    assert facts.ends == (later + LIFETIME).replace(microsecond=0)
    assert sorted(path.name for path in out.iterdir()) == ["ca.pem", "certificate.pem", "key.pem"]


def test_what_another_authority_has_issued_isnt_renewed(authority, tmp_path) -> None:
    other = init_authority(tmp_path / "other", now=NOW)
    other.issue(site("b"), tmp_path / "b", lifetime=LIFETIME, now=NOW)
    with pytest.raises(IdentityUnusable, match="not issued by the authority"):
        authority.renew(tmp_path / "b", lifetime=LIFETIME, now=NOW)


def test_what_only_bears_the_name_of_the_authority_isnt_renewed(authority, tmp_path) -> None:
    """Else whoever may write a folder would get any name certified."""
    other = init_authority(tmp_path / "other", now=NOW)
    liar = type(authority)(certificate=authority.certificate, key=other.key)
    name = x509.UniformResourceIdentifier(site("king").uri)
    forged = Forgery(names=(name,), issuer=liar).write(tmp_path / "forged")
    with pytest.raises(IdentityUnusable, match="not issued by the authority"):
        authority.renew(forged, lifetime=LIFETIME, now=NOW)


def test_an_authority_whose_key_others_may_read_isnt_used(authority, folder) -> None:
    (folder / "ca-key.pem").chmod(0o644)
    with pytest.raises(IdentityUnusable, match="others may read"):
        load_authority(folder, now=NOW)


def test_an_authority_that_has_expired_isnt_used(authority, folder) -> None:
    with pytest.raises(IdentityUnusable, match=r"expired at .*; make an authority with"):
        load_authority(folder, now=NOW + YEARS_10)


def test_an_identity_is_no_authority(authority, tmp_path) -> None:
    authority.issue(site("b"), tmp_path / "b", lifetime=LIFETIME, now=NOW)
    (tmp_path / "b" / "key.pem").rename(tmp_path / "b" / "ca-key.pem")
    (tmp_path / "b" / "certificate.pem").rename(tmp_path / "b" / "ca.pem")
    with pytest.raises(IdentityUnusable, match="this holds no authority of ours"):
        load_authority(tmp_path / "b", now=NOW)


def test_no_folder_is_no_authority(tmp_path) -> None:
    with pytest.raises(IdentityUnusable, match="make an authority with `transhume ca init`"):
        load_authority(tmp_path / "nowhere", now=NOW)


def test_an_authority_shows_no_key_when_printed(authority) -> None:
    assert "key" not in repr(authority)
