"""Which files are one capture point: by names, and as the real tools that rotate files name them."""

import gzip
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.unit.monitor.capture.capture_writing import Stamped, frame, pcap
from transhume.errors import UnreadableCapture
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.reading import OneByOne
from transhume.monitor.capture.rings import CapturePoint, capture_points, overlaps

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND
OPTIONS = ReadingOptions(window_seconds=1.0)


def frames(first: int, count: int = 10) -> list[Stamped]:
    """Return frames of which the first is so many seconds after the beginning."""
    return [(T0 + first * SECOND + i * SECOND // 100, frame(1, 2)) for i in range(count)]


def written(folder: Path, *names: str) -> list[str]:
    """Write captures, each later than the one before, and return their paths."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pcap(frames(number)))
    return [str(folder / name) for name in names]


def shape(points: tuple[CapturePoint, ...], folder: Path) -> list[tuple[str, list[str]]]:
    return [
        (
            point.name.removeprefix(f"{folder}/"),
            [str(path.relative_to(folder)) for path in point.files],
        )
        for point in points
    ]


def test_pipes_of_one_capture_point_are_read_from_their_beginning(tmp_path: Path) -> None:
    """As a shell makes them of `uplink=<(ssh hv1 cat a.pcap)`."""
    ends = [os.pipe() for _ in range(2)]
    for number, (_, into) in enumerate(ends):
        os.write(into, pcap(frames(number)))
        os.close(into)
    [stored] = written(tmp_path, "c.pcap")
    points = capture_points([f"up=/dev/fd/{out}" for out, _ in ends] + [f"up={stored}"])
    reading = OneByOne(points, OPTIONS)
    seen = sum(window.total_frames for window in reading)
    for out, _ in ends:
        os.close(out)
    assert seen == 30


@pytest.mark.parametrize(
    ("names", "point"),
    [
        (["cap.pcap", "cap.pcap1", "cap.pcap2"], "cap.pcap*"),
        (["cap.pcap00", "cap.pcap01", "cap.pcap10"], "cap.pcap*"),
        (["log.pcap.1700000000", "log.pcap.1700000600"], "log.pcap*"),
        (["a-20260101-120000.pcap", "a-20260101-121000.pcap"], "a-*.pcap*"),
        (["a_2026-01-01_12:00:00.pcap", "a_2026-01-01_12:10:00.pcap"], "a_*.pcap*"),
        (["a-20260101T1200Z.pcap", "a-20260102T1200Z.pcap"], "a-*.pcap*"),
        (["20260101.cap", "20260102.cap"], "*.cap*"),
        (["a-1700000000.pcap", "a-1700000600.pcap", "a-1700000600.pcap1"], "a-*.pcap*"),
        (["a_00001_20260101120000.pcapng", "a_00002_20260101121000.pcapng"], "a_*.pcapng*"),
        (["a_20260101120000_00001.pcapng", "a_20260101121000_00002.pcapng"], "a_*.pcapng*"),
        (["a_00001_20260101120000", "a_00002_20260101121000"], "a_*"),
    ],
)
def test_files_of_a_rotated_set_are_one_capture_point(
    tmp_path: Path, names: list[str], point: str
) -> None:
    given = written(tmp_path, *names)

    assert shape(capture_points(reversed(given)), tmp_path) == [(point, names)]


@pytest.mark.parametrize(
    "names",
    [
        ["vnet1.pcap", "vnet2.pcap"],
        ["host-01.pcap", "host-02.pcap"],
        ["tap1", "tap2"],
        ["a/cap.pcap", "b/cap.pcap1"],
        ["20260101-hosta.pcap", "20260101-hostb.pcap"],
        ["vnet0_00001_20260101120000.pcapng", "vnet1_00001_20260101120000.pcapng"],
        ["525400000001.pcap", "525400000002.pcap"],
        ["cap.pcap", "cap.pcapng"],
        ["10.0.0.1.pcap", "10.0.0.2.pcap"],
        ["host-12-30.pcap", "host-13-30.pcap"],
    ],
)
def test_files_with_other_names_are_different_capture_points(
    tmp_path: Path, names: list[str]
) -> None:
    given = written(tmp_path, *names)

    assert shape(capture_points(given), tmp_path) == [(name, [name]) for name in names]


def test_a_ring_is_read_by_time_and_not_by_number(tmp_path: Path) -> None:
    """A ring's numbers begin again at 0 while older files of higher numbers still lie there."""
    given = written(tmp_path, "ring.pcap1", "ring.pcap2", "ring.pcap0")

    ((_, names),) = shape(capture_points(sorted(given)), tmp_path)

    assert names == ["ring.pcap1", "ring.pcap2", "ring.pcap0"]


def test_files_without_frames_are_last(tmp_path: Path) -> None:
    given = written(tmp_path, "ring.pcap0", "ring.pcap1", "ring.pcap2")
    (tmp_path / "ring.pcap0").write_bytes(pcap([]))

    ((_, names),) = shape(capture_points(given), tmp_path)

    assert names == ["ring.pcap1", "ring.pcap2", "ring.pcap0"]


def test_packed_files_belong_to_the_set_that_they_were_rotated_in(tmp_path: Path) -> None:
    """`tcpdump -z gzip` packs what is complete, and writes the last file plainly."""
    for number, name in enumerate(["cap.pcap.gz", "cap.pcap1.gz"]):
        (tmp_path / name).write_bytes(gzip.compress(pcap(frames(number))))
    (tmp_path / "cap.pcap2").write_bytes(pcap(frames(2)))

    points = capture_points([str(tmp_path)])

    assert shape(points, tmp_path) == [("cap.pcap*", ["cap.pcap.gz", "cap.pcap1.gz", "cap.pcap2"])]


def test_a_capture_and_its_packed_copy_are_two_points_that_saw_the_same(tmp_path: Path) -> None:
    written(tmp_path, "cap.pcap")
    (tmp_path / "cap.pcap.gz").write_bytes(gzip.compress((tmp_path / "cap.pcap").read_bytes()))

    points = capture_points([str(tmp_path)])

    assert shape(points, tmp_path) == [
        ("cap.pcap", ["cap.pcap"]),
        ("cap.pcap.gz", ["cap.pcap.gz"]),
    ]


def test_a_folder_stands_for_the_captures_in_it_and_in_its_folders(tmp_path: Path) -> None:
    written(tmp_path, "a/vnet0.pcap", "a/vnet1.pcap", "b/cap.pcap", "b/cap.pcap1", ".old/cap.pcap")
    (tmp_path / "a" / "notes.txt").write_text("nothing to capture", encoding="utf-8")
    (tmp_path / "a" / "empty").write_bytes(b"")

    points = capture_points([str(tmp_path)])

    assert shape(points, tmp_path) == [
        ("a/vnet0.pcap", ["a/vnet0.pcap"]),
        ("a/vnet1.pcap", ["a/vnet1.pcap"]),
        ("b/cap.pcap*", ["b/cap.pcap", "b/cap.pcap1"]),
    ]


def test_a_pattern_stands_for_the_files_that_it_fits(tmp_path: Path) -> None:
    written(tmp_path, "a/cap.pcap", "a/cap.pcap1", "b/cap.pcap", "b/notes")

    points = capture_points([f"{tmp_path}/*/cap*"])

    assert [name for name, _ in shape(points, tmp_path)] == ["a/cap.pcap*", "b/cap.pcap"]


def test_a_name_puts_files_together_that_no_rule_would(tmp_path: Path) -> None:
    written(tmp_path, "12.pcap", "11.pcap", "other/x", "x")

    points = capture_points([f"web={tmp_path}/1*.pcap", f"web={tmp_path}/other", f"{tmp_path}/x"])

    assert shape(points, tmp_path) == [
        ("web", ["12.pcap", "11.pcap", "other/x"]),
        ("x", ["x"]),
    ]


def test_a_file_may_have_an_equals_sign_in_its_name(tmp_path: Path) -> None:
    given = written(tmp_path, "host=a.pcap")

    assert shape(capture_points(given), tmp_path) == [("host=a.pcap", ["host=a.pcap"])]


def test_a_file_that_is_given_twice_is_taken_once(tmp_path: Path) -> None:
    given = written(tmp_path, "cap.pcap", "cap.pcap1")
    (tmp_path / "link.pcap").symlink_to(given[0])

    points = capture_points([*given, str(tmp_path), *given, f"{tmp_path}/link.pcap"])

    assert shape(points, tmp_path) == [("cap.pcap*", ["cap.pcap", "cap.pcap1"])]


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("{0}/nothing.pcap", "No such file or folder"),
        ("{0}/*.pcap", "no file has such a name"),
        ("{0}", "no file in this folder is a capture"),
        ("web={0}/nothing", "No such file or folder"),
    ],
)
def test_what_is_not_there_is_told(tmp_path: Path, given: str, seen: str) -> None:
    (tmp_path / "notes.txt").write_text("nothing to capture", encoding="utf-8")

    with pytest.raises(UnreadableCapture, match=seen):
        capture_points([given.format(tmp_path)])


def test_files_of_one_set_that_overlap_in_time_are_doubted(tmp_path: Path) -> None:
    """Two taps may happen to be named like a rotated set; then each frame between them counted twice."""
    for name in ("cap.pcap1", "cap.pcap2"):
        (tmp_path / name).write_bytes(pcap(frames(0, count=1000)))
    reading = OneByOne(capture_points([str(tmp_path)]), OPTIONS)

    list(reading)

    (warning,) = reading.warnings
    assert f"{tmp_path}/cap.pcap2 begins 10.0 s before {tmp_path}/cap.pcap1 ends" in warning
    assert f"a={tmp_path}/cap.pcap1" in warning


def test_stamps_that_are_out_of_order_at_a_seam_are_not_doubted() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    point = CapturePoint(name="cap", files=(Path("cap.pcap0"), Path("cap.pcap1")))
    ms = timedelta(milliseconds=1)

    assert list(overlaps(point, [(at, at + 500 * ms), (at + 480 * ms, at + 900 * ms)])) == []


# --- the real tools ----------------------------------------------------------------------------------


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A capture of 40 seconds, a frame of 1,000 bytes each hundredth."""
    path = tmp_path / "recorded"
    whole = [(T0 + i * SECOND // 100, frame(1 + i % 5, 9, 1000)) for i in range(4000)]
    path.write_bytes(pcap(whole))
    return path


def rotated(recorded: Path, *command: str) -> tuple[CapturePoint, ...]:
    """Run a tool that rotates in a folder, and return the capture points there."""
    tool = shutil.which(command[0])
    if tool is None:
        pytest.skip(f"{command[0]} isn't installed")
    folder = recorded.parent / "rotated"
    folder.mkdir()
    subprocess.run([tool, *command[1:]], cwd=folder, check=True, capture_output=True, timeout=60)
    return capture_points([str(folder)])


@pytest.mark.parametrize(
    ("options", "files", "counted"),
    [
        pytest.param(["-C", "1", "-w", "cap.pcap"], 5, 4000, id="-C"),
        pytest.param(["-C", "1", "-W", "3", "-w", "cap.pcap"], 3, 2030, id="-C -W, a ring"),
        pytest.param(["-C", "1", "-W", "12", "-w", "cap.pcap"], 5, 4000, id="-C -W, with zeros"),
        pytest.param(["-G", "3600", "-C", "1", "-w", "cap-%s.pcap"], 5, 4000, id="-G -C"),
    ],
)
def test_what_tcpdump_rotates_is_one_capture_point(
    recorded: Path, options: list[str], files: int, counted: int
) -> None:
    (point,) = rotated(recorded, "tcpdump", "-Z", "root", "-r", str(recorded), *options)
    reading = OneByOne([point], OPTIONS)

    windows = list(reading)

    assert len(point.files) == files
    assert {window.capture_point for window in windows} == {point.name}
    assert sum(window.total_frames for window in windows) == counted
    assert [window.start for window in windows] == sorted(window.start for window in windows)
    assert reading.warnings == ()


def test_what_editcap_cuts_is_one_capture_point(recorded: Path) -> None:
    """It names files as dumpcap and tshark do when they rotate."""
    (point,) = rotated(recorded, "editcap", "-c", "1000", str(recorded), "cap.pcapng")

    windows = list(OneByOne([point], OPTIONS))

    assert len(point.files) == 4
    assert sum(window.total_frames for window in windows) == 4000
