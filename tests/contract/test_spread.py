"""Reading with several real processes gives what reading with one does, and leaves nothing behind."""

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.monitor.capture.capture_writing import (
    block,
    frame,
    interface,
    packet,
    pcap,
    pcapng,
    section,
)
from tests.unit.monitor.capture.window_sums import Sums, sums
from transhume.errors import UnreadableCapture, UsageError
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import CaptureSummary
from transhume.monitor.capture.reading import OneByOne
from transhume.monitor.capture.rings import capture_points
from transhume.monitor.capture.spread import Spread

pytest.importorskip("distributed")

T0 = 1_900_000_000_000_000_000
MANY = [(T0 + i * 700_000, frame(1 + i * 7 % 40, 9, 60 + i % 1200)) for i in range(12_000)]
OPTIONS = ReadingOptions(window_seconds=0.1)
PART_BYTES = 1 << 20


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Dask cluster of two processes that isn't ours to start."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=":0",
        memory_limit=0,
        local_directory=tmp_path_factory.mktemp("dask"),
    ) as cluster:
        yield cluster.scheduler_address


def read(reading: OneByOne | Spread) -> tuple[Sums, tuple[CaptureSummary, ...], tuple[str, ...]]:
    return sums(reading), reading.summaries, reading.warnings


def written(folder: Path, **contents: bytes) -> list[str]:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in contents]


def assorted(folder: Path) -> list[str]:
    """Write one of each kind: large and small, packed, cut short, of several sections, rotated."""
    two = section() + interface(resolution=9) + interface(link=101, resolution=9)
    two += b"".join(packet(whole[14:], at, number=1) for at, whole in MANY)
    simple = b"".join(block(3, len(w).to_bytes(4, "little") + w) for _, w in MANY[:3000])
    given = written(
        folder,
        large=pcap(MANY),
        small=pcap(MANY[:10]),
        packed=gzip.compress(pcapng(MANY)),
        cut_short=pcap(MANY, order=">")[:-7],
        damaged=pcapng(MANY) + b"\1\0\0\0\xff\0\0\0" * 9000,
        sections=pcapng(MANY) + two,
        simple=pcapng(MANY[:1]) + simple,
    )
    rotated = folder / "rotated"
    rotated.mkdir()
    for number in range(3):
        later = [(at + number * 10**10, whole) for at, whole in MANY]
        (rotated / f"cap.pcap{number}").write_bytes(pcap(later))
    return [*given, str(rotated)]


def test_two_workers_give_what_one_process_gives(tmp_path: Path, scheduler: str) -> None:
    """To the byte, and with the same summaries, but for parts that had to be read again."""
    points = capture_points(assorted(tmp_path))
    alone = OneByOne(points, OPTIONS)
    spread = Spread(points, OPTIONS, scheduler=scheduler, part_bytes=PART_BYTES)

    windows, summaries, warnings = read(alone)
    by_two, by_two_summaries, by_two_warnings = read(spread)

    assert by_two == windows
    assert by_two_warnings == warnings
    again = {one.path.rpartition("/")[2]: one.parts_read_again for one in by_two_summaries}
    assert again.pop("sections") > 0
    assert again.pop("simple") > 0
    assert set(again.values()) == {0}
    for one, other in zip(summaries, by_two_summaries, strict=True):
        assert (one.path, one.capture_point, one.frames, one.bytes) == (
            other.path,
            other.capture_point,
            other.frames,
            other.bytes,
        )
        assert (one.first, one.last, one.unreadable_frames) == (
            other.first,
            other.last,
            other.unreadable_frames,
        )
        assert (one.stopped, one.interfaces) == (other.stopped, other.interfaces)
    assert spread.position == spread.total_bytes


def test_workers_of_our_own_do_the_same_and_are_gone_afterwards(tmp_path: Path) -> None:
    points = capture_points(written(tmp_path, large=pcap(MANY)))
    windows, _, _ = read(OneByOne(points, OPTIONS))
    children = children_of(os.getpid())

    by_two, (summary,), _ = read(Spread(points, OPTIONS, workers=2, part_bytes=PART_BYTES))

    assert by_two == windows
    assert summary.frames == len(MANY)
    assert children_of(os.getpid()) == children


def children_of(pid: int) -> list[str]:
    """Return the command lines of a process's children, without the one that Python keeps for all."""
    found = subprocess.run(
        ["ps", "ww", "--no-headers", "-o", "pid,args", "--ppid", str(pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    passing = ("resource_tracker", "ps ww")
    return [line for line in found.stdout.splitlines() if not any(p in line for p in passing)]


def test_a_pipe_among_files_is_read_by_this_process(tmp_path: Path, scheduler: str) -> None:
    given = written(tmp_path, first=pcap(MANY[:50]), last=pcap(MANY[50:100]))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["/bin/sh", "-c", f"cat {given[0]} > {pipe}"])
    points = capture_points([given[0], str(pipe), given[1]])

    _, summaries, _ = read(Spread(points, OPTIONS, scheduler=scheduler))

    assert writer.wait(timeout=30) == 0
    assert [(one.path, one.frames) for one in summaries] == [
        (given[0], 50),
        (str(pipe), 50),
        (given[1], 50),
    ]


def test_a_file_that_is_no_capture_is_refused_by_its_name(tmp_path: Path, scheduler: str) -> None:
    points = capture_points(written(tmp_path, good=pcap(MANY[:10]), letter=b"a letter" * 10))

    with pytest.raises(UnreadableCapture, match=r"letter: is no pcap or pcapng file \(it begins"):
        read(Spread(points, OPTIONS, scheduler=scheduler))


def test_a_file_that_the_workers_see_otherwise_is_refused(tmp_path: Path, scheduler: str) -> None:
    """As on another machine, where the path is another file's."""
    points = capture_points(written(tmp_path, large=pcap(MANY)))
    reading = Spread(points, OPTIONS, scheduler=scheduler, part_bytes=PART_BYTES)
    windows = iter(reading)
    next(windows)
    os.truncate(points[0].files[0], 24)

    with pytest.raises(UnreadableCapture, match="has 24 bytes where the worker runs"):
        list(windows)


def test_a_reading_that_is_given_up_leaves_nothing_running(tmp_path: Path) -> None:
    points = capture_points(written(tmp_path, large=pcap(MANY)))
    children = children_of(os.getpid())
    windows = iter(Spread(points, OPTIONS, workers=1, part_bytes=PART_BYTES))
    next(windows)

    windows.close()  # type: ignore[attr-defined]

    assert children_of(os.getpid()) == children


def test_a_worker_that_dies_is_replaced_and_its_part_is_read_by_another(tmp_path: Path) -> None:
    points = capture_points(written(tmp_path, large=pcap(MANY)))
    expected, _, _ = read(OneByOne(points, OPTIONS))
    before = set(workers_below(os.getpid()))
    windows = iter(Spread(points, OPTIONS, workers=2, part_bytes=200_000))
    found = [next(windows)]

    victim = min(set(workers_below(os.getpid())) - before)
    os.kill(victim, signal.SIGKILL)
    found += windows

    assert sums(found) == expected


def workers_below(pid: int) -> list[int]:
    """Return a process's children that Dask started as workers."""
    return [int(line.split()[0]) for line in children_of(pid) if "spawn_main" in line]


def test_a_worker_with_another_version_is_refused(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might count otherwise, and nobody would see it."""
    points = capture_points(written(tmp_path, small=pcap(MANY[:10])))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9")

    with pytest.raises(
        UsageError, match=r"this worker's version of Transhume is .*, and ours 9\.9"
    ):
        list(Spread(points, OPTIONS, scheduler=scheduler))


READ = """
import sys
from pathlib import Path
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.rings import capture_points
from transhume.monitor.capture.spread import Spread

if __name__ == "__main__":
    points = capture_points(sys.argv[1:])
    for _ in Spread(points, ReadingOptions(window_seconds=0.1), workers=2, part_bytes=1 << 20):
        print("a window", flush=True)
        sys.stdin.read()
"""


def test_an_interrupt_ends_the_workers_too(tmp_path: Path) -> None:
    """As Ctrl-C does: all processes of the terminal get it at once."""
    program = tmp_path / "program.py"
    program.write_text(READ, encoding="utf-8")
    (capture,) = written(tmp_path, large=pcap(MANY))
    process = subprocess.Popen(
        [sys.executable, str(program), capture],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{Path.cwd()}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "a window\n"
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert said.strip().endswith("KeyboardInterrupt")
    assert said.count("Traceback") == 1
    until = time.monotonic() + 10
    while session_of(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert session_of(process.pid) == []


def session_of(leader: int) -> list[str]:
    found = subprocess.run(
        ["ps", "ww", "--no-headers", "-o", "args", "-s", str(leader)],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.splitlines()


@pytest.mark.parametrize(
    ("workers", "scheduler_address", "told"),
    [
        pytest.param(0, None, "0 workers can't read", id="none"),
        pytest.param(2, "tcp://127.0.0.1:1", "not both", id="both"),
    ],
)
def test_workers_that_make_no_sense_are_refused_at_once(
    workers: int, scheduler_address: str | None, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        Spread((), OPTIONS, workers=workers, scheduler=scheduler_address)


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path) -> None:
    points = capture_points(written(tmp_path, small=pcap(MANY[:10])))

    with pytest.raises(UsageError, match=r"tcp://127\.0\.0\.1:1: no Dask scheduler answers"):
        list(Spread(points, OPTIONS, scheduler="tcp://127.0.0.1:1"))


def test_a_scheduler_without_workers_is_told(tmp_path: Path) -> None:
    from distributed import LocalCluster

    points = capture_points(written(tmp_path, small=pcap(MANY[:10])))
    with LocalCluster(n_workers=0, dashboard_address=":0", local_directory=tmp_path) as cluster:
        with pytest.raises(UsageError, match="the scheduler has no workers"):
            list(Spread(points, OPTIONS, scheduler=cluster.scheduler_address))
