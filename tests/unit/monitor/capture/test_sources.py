"""Captures that aren't all there yet: pipes, standard input, and files that somebody is still writing."""

import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zstandard

from tests.unit.monitor.capture.capture_writing import frame, pcap, pcapng
from transhume.errors import UnreadableCapture
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import CaptureReading, CaptureSummary

T0 = 1_900_000_000_000_000_000
MANY = [(T0 + i * 1_000_000, frame(1 + i % 5, 9, 100)) for i in range(4000)]
CAPTURE = pcap(MANY)
READ_STANDARD_INPUT = """
import sys
from pathlib import Path
from transhume.monitor.capture.files import CaptureReading
reading = CaptureReading(Path("-"), 1.0)
frames = sum(window.total_frames for window in reading)
print(frames, reading.summary.frames, reading.summary.path, reading.summary.stopped)
"""


@pytest.mark.parametrize(
    ("content", "stopped"),
    [
        pytest.param(CAPTURE, "None", id="pcap"),
        pytest.param(pcapng(MANY), "None", id="pcapng"),
        pytest.param(gzip.compress(CAPTURE), "None", id="gzip"),
        pytest.param(zstandard.compress(CAPTURE), "None", id="Zstandard"),
        pytest.param(
            CAPTURE + b"\0" * 9,
            f"byte {len(CAPTURE)}: the file ends 9 bytes into a record's header",
            id="cut short",
        ),
    ],
)
def test_standard_input_is_read_as_a_file_is(content: bytes, stopped: str) -> None:
    """By a real pipe to another process; `tcpdump -w -` and `zstdcat` write to such."""
    done = subprocess.run(
        [sys.executable, "-c", READ_STANDARD_INPUT],
        input=content,
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.decode().strip() == f"4000 4000 standard input {stopped}"


def test_standard_input_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tap.pcap"
    path.write_bytes(CAPTURE)
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", READ_STANDARD_INPUT],
            stdin=file,
            capture_output=True,
            check=True,
            timeout=60,
        )

    assert done.stdout.decode().strip() == "4000 4000 standard input None"


@contextmanager
def writing_to(pipe: Path, write: Callable[[int], None]) -> Iterator[None]:
    """Write to a named pipe meanwhile."""

    def run() -> None:
        file = os.open(pipe, os.O_WRONLY)
        try:
            write(file)
        finally:
            os.close(file)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=30)


@pytest.mark.parametrize(
    "content", [pytest.param(CAPTURE, id="plain"), pytest.param(gzip.compress(CAPTURE), id="gzip")]
)
def test_a_named_pipe_that_gives_its_bytes_in_odd_lots_is_read_whole(
    tmp_path: Path, content: bytes
) -> None:
    pipe = tmp_path / "fifo"
    os.mkfifo(pipe)
    lots = [1, 1, 1, 5, 23, 100, 2000]

    def write(file: int) -> None:
        at = 0
        for lot in lots:
            os.write(file, content[at : at + lot])
            at += lot
            time.sleep(0.001)
        while at < len(content):
            at += os.write(file, content[at : at + 30_011])

    reading = CaptureReading(pipe, 1.0)
    with writing_to(pipe, write):
        windows = list(reading)

    assert sum(window.total_frames for window in windows) == 4000
    assert reading.summary.stopped is None
    assert reading.position == len(content)


@pytest.mark.parametrize(
    "content", [pytest.param(CAPTURE, id="plain"), pytest.param(gzip.compress(CAPTURE), id="gzip")]
)
def test_the_wait_for_a_silent_pipe_can_be_ended(tmp_path: Path, content: bytes) -> None:
    pipe = tmp_path / "fifo"
    os.mkfifo(pipe)
    half = threading.Event()
    over = threading.Event()

    def write(file: int) -> None:
        os.write(file, content[: len(content) // 2])
        half.set()
        over.wait(30)

    reading = CaptureReading(pipe, 1.0)
    with writing_to(pipe, write):
        stopper = threading.Thread(target=lambda: (half.wait(30), reading.stop()))
        stopper.start()
        list(reading)
        over.set()
        stopper.join()

    assert 0 < reading.summary.frames < 4000


def test_the_wait_for_whoever_writes_to_a_pipe_can_be_ended(tmp_path: Path) -> None:
    """`transhume analyze --follow` on a pipe whose other end nobody opens heeded no Ctrl-C."""
    pipe = tmp_path / "fifo"
    os.mkfifo(pipe)
    reading = CaptureReading(pipe, 1.0)
    stopper = threading.Timer(0.2, reading.stop)
    stopper.start()
    ended = threading.Event()

    def read() -> None:
        with pytest.raises(UnreadableCapture, match="it is empty"):
            list(reading)
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    assert ended.wait(10)
    stopper.join()


class Writer:
    """Another process's hand on a capture file, as this thread's reader meets it."""

    def __init__(self, path: Path, content: bytes = b"") -> None:
        self.path = path
        self._content = memoryview(content)
        path.write_bytes(b"")

    def append(self, count: int) -> None:
        with self.path.open("ab") as file:
            file.write(self._content[:count])
        self._content = self._content[count:]

    @contextmanager
    def meanwhile(self, *lots: int, then: Callable[[], object] = lambda: None) -> Iterator[None]:
        def run() -> None:
            for lot in lots:
                self.append(lot)
                time.sleep(0.01)
            then()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join(timeout=30)


def followed(reading: CaptureReading) -> tuple[list[TrafficWindow], CaptureSummary]:
    return list(reading), reading.summary


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(CAPTURE, id="pcap"),
        pytest.param(pcapng(MANY), id="pcapng"),
        pytest.param(gzip.compress(CAPTURE, 1), id="gzip"),
    ],
)
def test_a_growing_file_is_read_as_it_grows(tmp_path: Path, content: bytes) -> None:
    """Records and headers that are there in part are waited for."""
    writer = Writer(tmp_path / "tap.pcap", content)
    reading = CaptureReading(writer.path, 1.0, follow=True)

    with writer.meanwhile(3, 17, 9, 100, 5000, 1, 4000, len(content), then=reading.stop):
        _, summary = followed(reading)

    assert (summary.frames, summary.stopped) == (4000, None)


def test_windows_of_a_growing_file_come_while_it_grows(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tap.pcap", CAPTURE)
    writer.append(len(CAPTURE) // 2)
    reading = CaptureReading(
        writer.path, ReadingOptions(window_seconds=0.1), follow=True, idle_seconds=None
    )
    windows = iter(reading)

    early = [next(windows) for _ in range(10)]
    writer.append(len(CAPTURE))
    later = [next(windows) for _ in range(20)]
    reading.stop()
    rest = list(windows)

    assert [window.total_frames for window in early + later + rest] == [100] * 40


def test_a_last_record_that_never_gets_whole_is_told(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tap.pcap", CAPTURE)
    writer.append(len(CAPTURE) - 10)

    _, summary = followed(CaptureReading(writer.path, 1.0, follow=True, idle_seconds=0.1))

    assert summary.frames == 3999
    assert summary.stopped is not None
    assert "ends 10 bytes before" in summary.stopped


def test_following_ends_where_nothing_comes_for_long_enough(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "tap.pcap", CAPTURE)
    writer.append(len(CAPTURE))

    _, summary = followed(CaptureReading(writer.path, 1.0, follow=True, idle_seconds=0.1))

    assert (summary.frames, summary.stopped) == (4000, None)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        pytest.param(lambda path: os.truncate(path, 24), "cut to 24 bytes", id="cut"),
        pytest.param(lambda path: path.unlink(), "was removed", id="removed"),
        pytest.param(
            lambda path: (
                path.with_name("new").write_bytes(b""),
                path.with_name("new").rename(path),
            ),
            "another file took its name",
            id="replaced",
        ),
    ],
)
def test_a_followed_file_that_is_taken_away_is_noticed(
    tmp_path: Path, harm: Callable[[Path], object], told: str
) -> None:
    writer = Writer(tmp_path / "tap.pcap", CAPTURE)
    writer.append(len(CAPTURE))
    reading = CaptureReading(writer.path, 0.1, follow=True)
    windows = iter(reading)
    first = next(windows)

    harm(writer.path)
    rest = list(windows)

    assert sum(window.total_frames for window in [first, *rest]) == 4000
    assert reading.summary.stopped is not None
    assert reading.summary.stopped.startswith(f"byte {len(CAPTURE)}: ")
    assert told in reading.summary.stopped


def test_a_folder_is_no_capture(tmp_path: Path) -> None:
    with pytest.raises(UnreadableCapture, match="Is a directory"):
        list(CaptureReading(tmp_path, 1.0))
