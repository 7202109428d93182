"""Files that a command writes are whole or not there, and say why they can't be written."""

import os
import signal
import stat
import subprocess
import sys
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


HALF = """
import sys
from pathlib import Path
from transhume.cli import main

def write_text(path, text, **_):
    with path.open("w") as file:
        file.write(text[:100])
        print("half", flush=True)
        sys.stdin.read()

Path.write_text = write_text
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
def test_a_command_that_is_told_to_end_leaves_nothing_half_done(
    tmp_path: Path, number: signal.Signals
) -> None:
    words = ["replay", "--policy", "policies", "--traces", "examples/traces/three-days"]
    with subprocess.Popen(
        [sys.executable, "-c", HALF, *words, "--report", str(tmp_path / "report.html")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(number)
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == -number
    assert list(tmp_path.iterdir()) == []
