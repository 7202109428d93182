"""`transhume demo --live`, as far as it goes without a lab: what becomes of labs when it ends early."""

import asyncio
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
