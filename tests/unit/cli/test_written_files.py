"""Files that a command writes are whole or not there, and say why they can't be written."""

import os
import stat
import threading
from pathlib import Path

import pytest

from transhume.cli.written_files import write, written
from transhume.errors import UsageError


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail() -> None:
        with written(path) as unfinished:
            unfinished.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_a_file_that_is_replaced_keeps_its_mode_and_its_links(tmp_path: Path) -> None:
    path, link = tmp_path / "report.html", tmp_path / "latest.html"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)

    write(link, "new")

    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_pipe_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()

    write(pipe, "through")
    reader.join()

    assert read == ["through"]
    assert pipe.is_fifo()


def test_a_full_disk_is_told_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"No space left on device.*; name another file"):
        write(Path("/dev/full"), "words")


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)

    write(path, "words")

    assert path.read_text() == "words"
