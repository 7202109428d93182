"""`transhume demo --live`, as far as it goes without a lab: what becomes of labs when it ends early."""

from io import StringIO
from pathlib import Path

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
