"""`transhume ca`: from an authority to certificates, and what is said of each."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from transhume import cli
from transhume.execute.migration.trust import Peer, PeerKind, load_authority, load_identity

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSHUME_CA", raising=False)

    def ran(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["transhume", "ca", *words])
        try:
            cli.main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return ran


@pytest.fixture
def ca(run) -> Path:
    assert run("init", "ca")[0] == 0
    return Path("ca")


INSTANT = re.compile(r"[0-9-]{10}T[0-9:]{8}[+]00:00")


def days_ahead(words: str) -> list[int]:
    """Return how many days from now each instant in a text is, the nearest number."""
    instants = map(datetime.fromisoformat, INSTANT.findall(words))
    return [round((instant - datetime.now(UTC)) / timedelta(days=1)) for instant in instants]


def test_a_gateways_identity_is_two_commands_away(run) -> None:
    status, out, _ = run("init", "ca")
    assert (status, out[:22]) == (0, "authority in ca, until")
    status, out, _ = run("issue", "--site", "a", "--ca", "ca", "--out", "a")
    assert status == 0
    assert out.startswith("site a in a, until ")
    assert days_ahead(out) == [90]
    assert load_identity(Path("a"), kind=PeerKind.SITE).peer == Peer(kind=PeerKind.SITE, name="a")


def test_an_operators_certificate_may_be_short(run, ca) -> None:
    status, out, _ = run("issue", "--operator", "anne", "--ca", "ca", "--out", "x/y", "--days", "3")
    assert (status, days_ahead(out)) == (0, [3])
    assert out.startswith("operator anne in x/y, until ")


def test_the_authoritys_folder_can_come_from_the_environment(run, ca, monkeypatch) -> None:
    monkeypatch.setenv("TRANSHUME_CA", "ca")
    assert run("issue", "--site", "a", "--out", "a")[0] == 0


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param(["init", "ca"], 2, "ca is there already", id="an authority twice"),
        pytest.param(
            ["issue", "--site", "a", "--ca", "ca", "--out", "ca"],
            2,
            "ca is there already, and nothing is written over it; name a new folder",
            id="an identity over an authority",
        ),
        pytest.param(
            ["issue", "--ca", "ca", "--out", "a"],
            2,
            "give one of --site, --host and --operator, with a name",
            id="nobody",
        ),
        pytest.param(
            ["issue", "--site", "a", "--operator", "b", "--ca", "ca", "--out", "a"],
            2,
            "give one of --site, --host and --operator, with a name",
            id="two",
        ),
        pytest.param(
            ["issue", "--site", "a b", "--ca", "ca", "--out", "a"],
            2,
            "'a b' is no name; leave out spaces, slashes and the signs of patterns",
            id="no name",
        ),
        pytest.param(
            ["issue", "--site", "a", "--out", "a"],
            2,
            "Missing option '--ca'; see `transhume ca issue --help`",
            id="no authority",
        ),
        pytest.param(
            ["issue", "--site", "a", "--ca", "nowhere", "--out", "a"],
            65,
            "nowhere/ca.pem: No such file or directory; make an authority with `transhume ca init`",
            id="a missing authority",
        ),
        pytest.param(
            ["issue", "--site", "a", "--ca", "ca", "--out", "a", "--days", "40000000"],
            2,
            "Invalid value for '--days': 40000000 is not in the range 1<=x<=3650;"
            " see `transhume ca issue --help`",
            id="for ages",
        ),
        pytest.param(
            ["renew", "ca", "--ca", "ca"],
            65,
            "ca/certificate.pem: No such file or directory; issue one with `transhume ca issue`",
            id="nothing to renew",
        ),
        pytest.param(
            ["show", "ca/ca-key.pem"],
            65,
            "ca/ca-key.pem: this is no certificate in PEM; issue one with `transhume ca issue`",
            id="a key shown",
        ),
    ],
)
def test_a_mistake_is_told_with_a_remedy_and_changes_nothing(run, ca, words, status, said) -> None:
    before = {path: path.read_bytes() for path in Path().rglob("*.pem")}
    left, out, err = run(*words)
    assert (left, out, err[: len(said) + 11]) == (status, "", f"transhume: {said}")
    assert {path: path.read_bytes() for path in Path().rglob("*.pem")} == before


def test_show_tells_whose_certificates_are_and_until_when(run, ca) -> None:
    run("issue", "--site", "a", "--ca", "ca", "--out", "a")
    status, out, _ = run("show", "ca", "a", "a/ca.pem")
    assert status == 0
    root, site, copy = out.splitlines()
    name = root.partition("(")[2].partition(")")[0]
    assert root.startswith(f"ca/ca.pem: an authority ({name}), valid: ")
    assert root.endswith(", issued by itself")
    assert site.startswith("a/certificate.pem: site a, valid: ")
    assert days_ahead(site) == [0, 90]
    assert site.endswith(f", issued by {name}")
    assert copy.removeprefix("a/") == root.removeprefix("ca/")


def test_show_as_json_has_all_of_it(run, ca) -> None:
    run("issue", "--operator", "anne", "--ca", "ca", "--out", "anne")
    status, out, _ = run("show", "anne", "ca", "--json")
    anne, root = json.loads(out)["certificates"]
    assert status == 0
    assert (anne["kind"], anne["name"], anne["authority"]) == ("operator", "anne", False)
    assert (root["kind"], root["name"], root["authority"]) == (None, None, True)
    assert anne["issuer"] == root["subject"] == root["issuer"]
    assert anne["standing"] == "valid"
    assert datetime.fromisoformat(anne["ends"]) > datetime.now(UTC) + timedelta(days=89)
    assert len(bytes.fromhex(anne["sha256"])) == 32


@pytest.mark.parametrize(
    ("ago", "status", "told"),
    [
        pytest.param(80, 0, "site a, ends soon: ", id="ends soon"),
        pytest.param(91, 65, "site a, expired: ", id="expired"),
        pytest.param(-1, 65, "site a, not valid yet: ", id="of the future"),
    ],
)
def test_show_says_where_a_certificate_doesnt_hold_or_not_for_long(
    run, ca, ago, status, told
) -> None:
    peer, then = Peer(kind=PeerKind.SITE, name="a"), datetime.now(UTC) - timedelta(days=ago)
    load_authority(ca).issue(peer, Path("a"), lifetime=timedelta(days=90), now=then)
    left, out, _ = run("show", "a")
    assert left == status
    assert told in out
    assert out.endswith("; see `transhume ca renew`\n") is (ago > 0)


def test_renewing_puts_the_end_off(run, ca) -> None:
    run("issue", "--site", "a", "--ca", "ca", "--out", "a", "--days", "2")
    status, out, _ = run("renew", "a", "--ca", "ca", "--days", "30")
    assert (status, days_ahead(out)) == (0, [30])
    assert days_ahead(run("show", "a")[1]) == [0, 30]


def test_what_a_stranger_wrote_into_a_certificate_cant_reach_the_terminal(run, ca) -> None:
    """A path is a stranger's too; what is printed has no control characters."""
    shutil.copy("ca/ca.pem", "\x1b[2J.pem")
    status, out, _ = run("show", "\x1b[2J.pem")
    assert (status, "\x1b" in out) == (0, False)


def test_without_cryptography_the_extra_is_named(tmp_path) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None; sys.argv = ['transhume', 'ca', 'init', 'ca']\n"
        "from transhume.cli import main; main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False, text=True
    )
    assert (told.returncode, told.stderr) == (
        69,
        "transhume: working with certificates needs the extra [gateway]: "
        "pip install 'transhume[gateway]'\n",
    )
