"""`transhume demo --live`, as far as it goes without a lab: what becomes of labs when it ends early."""

import asyncio
import signal
import sys
from io import StringIO
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console

from transhume.cli.demonstration import live
from transhume.errors import LabError
from transhume.lab import lab as labs
from transhume.lab import leftovers


async def enter(folder: Path) -> None:
    async with live.stage(folder, Console(file=StringIO())):
        raise AssertionError("there is a stage")


async def test_a_lab_that_is_up_already_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []
    monkeypatch.setattr(labs, "lab_namespaces", lambda: ("thlab-a",))
    monkeypatch.setattr(leftovers, "remove_everything", removed.append)

    with pytest.raises(LabError, match="there is a lab already"):
        await enter(tmp_path)

    assert removed == []


async def test_a_lab_is_taken_down_when_it_is_built_and_not_while_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C doesn't reach the thread that builds it; what it goes on to build would stay behind."""
    begun, go, done = Event(), Event(), list[str]()

    def up(*_: object) -> None:
        begun.set()
        go.wait()
        done.append("up")

    monkeypatch.setattr(labs, "lab_namespaces", tuple)
    monkeypatch.setattr(labs.Lab, "up", up)
    monkeypatch.setattr(labs.Lab, "down", lambda _: done.append("down"))
    entering = asyncio.create_task(enter(tmp_path))
    await asyncio.to_thread(begun.wait)
    entering.cancel()
    await asyncio.wait({entering}, timeout=0.2)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await entering

    assert done == ["up", "down"]


LIVE = """
import sys
from transhume.cli import main
from transhume.lab import lab as labs

def up(*_):
    print("building", flush=True)
    sys.stdin.read()
    print("built", flush=True)

labs.lab_namespaces = tuple
labs.Lab.up = up
labs.Lab.down = lambda _: print("taken down", flush=True)
main()
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name
)
async def test_whoever_is_impatient_leaves_no_lab_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    """To build one takes minutes, in which somebody presses Ctrl-C again, or closes the terminal."""
    words = ["-c", LIVE, "demo", "--live", "--report", str(tmp_path / "report.html")]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=-1, stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while await process.stdout.readline() != b"building\n":
                assert process.returncode is None
            for _ in range(3):
                process.send_signal(number)
                await asyncio.sleep(0.3)
            said, complained = await process.communicate(b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert said.split(b"\n")[-3:] == [b"built", b"taken down", b""]
    assert (process.returncode, complained) == (-number, b"")
