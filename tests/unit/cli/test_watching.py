"""What a person is told while captures are read: on a terminal only, and why it takes its time."""

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from transhume.cli.watching import progress_bar, waits_for, warn

if TYPE_CHECKING:
    from transhume.cli.capture_files import Captures

COMPILED = "transhume.monitor.capture.scan.compiled.machine_code"


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        pytest.param(None, "reading", id="the compiled scanner isn't used"),
        pytest.param(SimpleNamespace(), "reading", id="it is being loaded"),
        pytest.param(
            SimpleNamespace(compile_needed=lambda: False), "reading", id="compiled before"
        ),
        pytest.param(
            SimpleNamespace(compile_needed=lambda: True),
            "compiling the scanner, this once",
            id="for the first time",
        ),
    ],
)
def test_whoever_waits_for_the_compiler_is_told(
    monkeypatch: pytest.MonkeyPatch, loaded: object, said: str
) -> None:
    monkeypatch.setitem(sys.modules, COMPILED, loaded)  # type: ignore[arg-type]

    assert waits_for() == said


def test_where_there_is_no_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(cast("Captures", None)):
        pass

    assert capsys.readouterr() == ("", "")


def test_warnings_can_not_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    warn(["\x1b[2Ja.pcap: reading stopped"])

    assert capsys.readouterr().err == "warning: \ufffd[2Ja.pcap: reading stopped\n"
