"""The command line as a whole: what it says of itself, how soon, and how it fails."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from transhume import cli
from transhume.errors import (
    Error,
    HypervisorUnreachable,
    InvalidFile,
    KnowledgeUnreachable,
    Mistake,
    UsageError,
)

WIDTH = 78
"""What click makes of a terminal of 80 columns."""
HEAVY = {"numpy", "scipy", "sklearn", "redis", "pydantic", "rich", "libvirt"}


def contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from contexts(click.Context(command, info_name=name, parent=context))


ALL = list(
    contexts(
        click.Context(
            cli.group, info_name="transhume", terminal_width=WIDTH, **cli.group.context_settings
        )
    )
)


def test_the_commands_are_in_alphabetical_order_and_all_there() -> None:
    found = [context.info_name for context in ALL if context.parent is ALL[0]]
    assert found == sorted(cli.COMMANDS)


@pytest.mark.parametrize("context", ALL, ids=lambda context: context.command_path)
def test_help_shows_examples_that_call_the_command(context: click.Context) -> None:
    _, heading, examples = context.get_help().partition("  Examples:\n")
    assert heading
    assert examples.startswith(f"    {context.command_path}")


@pytest.mark.parametrize("context", ALL[1:], ids=lambda context: context.command_path)
def test_a_command_says_in_one_whole_line_what_it_does(context: click.Context) -> None:
    """Click shortens what doesn't fit beside the name, and dots tell nobody anything."""
    assert context.parent is not None
    summary = (context.command.help or "").splitlines()[0]
    assert summary.endswith(".")
    assert f"  {context.info_name} " in context.parent.get_help()
    assert f" {summary}\n" in f"{context.parent.get_help()}\n"


@pytest.mark.parametrize("context", ALL, ids=lambda context: context.command_path)
def test_help_fits_into_80_columns(context: click.Context) -> None:
    assert [line for line in context.get_help().splitlines() if len(line) > 80] == []


def test_help_imports_nothing_that_is_slow_to_import() -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import atexit, json, sys\n"
            "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
            "sys.argv = ['transhume', '--help']\n"
            "from transhume.cli import main\n"
            "main()\n",
        ],
        capture_output=True,
        check=True,
        text=True,
    )
    assert told.stdout.startswith("Usage: transhume")
    assert HEAVY & set(json.loads(told.stderr)) == set()


def raising(error: BaseException) -> click.Command:
    @click.command("analyze")
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        pytest.param(UsageError("no such VM"), 2, "transhume: no such VM\n", id="usage"),
        pytest.param(KnowledgeUnreachable("gone"), 75, "transhume: gone\n", id="temporary"),
        pytest.param(Error("odd"), 1, "transhume: odd\n", id="no code of its own"),
        pytest.param(
            HypervisorUnreachable("a1", "qemu:///system", "refused"),
            75,
            "transhume: host a1: qemu:///system doesn't answer (refused); is its libvirtd running?\n",
            id="made from fields",
        ),
        pytest.param(
            InvalidFile((Mistake("p.yaml", 2, 1, "b"), Mistake("p.yaml", 1, 7, "a"))),
            65,
            "transhume: p.yaml:1:7: a\np.yaml:2:1: b\n",
            id="a line for each mistake",
        ),
        pytest.param(click.ClickException("odd"), 1, "transhume: odd\n", id="click's own"),
        pytest.param(Error("a\x1b[2Jb"), 1, "transhume: a\ufffd[2Jb\n", id="harmless"),
        pytest.param(
            OSError(28, "No space left on device"),
            74,
            "transhume: can't write all of the output: No space left on device; make room, and try again\n",
            id="a full disk",
        ),
        pytest.param(
            PermissionError(13, "Permission denied", "/home/b/a.yaml"),
            77,
            "transhume: /home/b/a.yaml: Permission denied; ask as a user who may\n",
            id="somebody else's file",
        ),
    ],
)
def test_an_error_is_told_on_stderr_and_by_the_exit_status(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli.group, "get_command", lambda *_: raising(error))
    monkeypatch.setattr(sys, "argv", ["transhume", "analyze"])

    with pytest.raises(SystemExit) as left:
        cli.main()

    out, err = capsys.readouterr()
    assert (left.value.code, out, err.lstrip("\n")) == (status, "", said)


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.group, "get_command", lambda *_: raising(ZeroDivisionError()))
    monkeypatch.setattr(sys, "argv", ["transhume", "analyze"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(
            ["run"], "Missing option '--policies'; see `transhume run --help`", id="missing option"
        ),
        pytest.param(
            ["run", "--policies", "."],
            "there is no deployment file transhume.yaml: name one with --config or TRANSHUME_CONFIG",
            id="missing deployment",
        ),
        pytest.param(
            ["status", "--url", "u:secret@x"],
            "Invalid value for '--url': ***@x is no URL of a Redis; write redis://HOST:PORT,"
            " rediss://HOST:PORT or unix://PATH; see `transhume status --help`",
            id="no URL of a Redis",
        ),
        pytest.param(
            ["history", "--limit", "0"],
            "Invalid value for '--limit': 0 is not in the range x>=1; see `transhume history --help`",
            id="no moves at all",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line_with_a_remedy(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRANSHUME_CONFIG", raising=False)
    monkeypatch.setattr(sys, "argv", ["transhume", *words])

    with pytest.raises(SystemExit) as left:
        cli.main()

    assert left.value.code == 2
    assert capsys.readouterr().err == f"transhume: {said}\n"


@pytest.mark.parametrize("words", [[], ["ca"], ["policy"], ["lab"]], ids=" ".join)
def test_a_group_without_a_command_shows_its_help(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["transhume", *words])

    with pytest.raises(SystemExit) as left:
        cli.main()

    assert left.value.code == 2
    assert "\nCommands:\n" in capsys.readouterr().err


def test_an_unknown_command_is_told_with_a_way_to_the_known_ones() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "transhume", "frobnicate"],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert told.returncode == 2
    assert "No such command 'frobnicate'" in told.stderr
    assert "transhume --help" in told.stderr


def test_status_of_a_daemon_that_keeps_its_own_knowledge_and_does_not_run(tmp_path: Path) -> None:
    config = tmp_path / "transhume.yaml"
    config.write_text(f"clouds: {{home: {{}}}}\nknowledge: {{state_dir: {tmp_path}}}\n")
    told = CliRunner().invoke(cli.group, ["status", "--json", "--config", str(config)])
    assert (told.exit_code, json.loads(told.stdout)["running"]) == (3, False)
    assert "transhume run" in told.stderr


CLOSED = """
import os, sys
from pathlib import Path
from transhume import cli

def look(**_):
    print("nobody reads this")
    print("nor this", file=sys.stderr)
    leads = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
    Path(sys.argv[1]).write_text(f"{leads} {sys.stdin.read()!r}", encoding="utf-8")

cli.group.main = look
cli.main()
"""


def test_standard_streams_that_are_closed_lead_nowhere(tmp_path: Path) -> None:
    """Else what is opened next, a connection say, would be standard error to all libraries."""
    found = tmp_path / "found"
    words = [sys.executable, "-c", CLOSED, str(found)]
    subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", *words], check=True)
    assert found.read_text(encoding="utf-8") == f"{['/dev/null'] * 3} ''"
