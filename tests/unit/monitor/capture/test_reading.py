"""Several captures as one stream: their order, how far it is, what a person should know of it."""

import os
import threading
from pathlib import Path

import pytest

from tests.unit.monitor.capture.capture_writing import frame, pcap
from tests.unit.monitor.capture.window_sums import sums
from transhume.errors import UnreadableCapture, UsageError
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import read_windows
from transhume.monitor.capture.reading import OneByOne
from transhume.monitor.capture.rings import CapturePoint, capture_points

T0 = 1_900_000_000_000_000_000
OPTIONS = ReadingOptions(window_seconds=1.0)


def written(folder: Path, name: str, first: int = 0, tail: bytes = b"") -> Path:
    frames = [(T0 + first * 10**9 + i * 10**8, frame(1 + i % 3, 9)) for i in range(100)]
    path = folder / name
    path.write_bytes(pcap(frames) + tail)
    return path


def test_windows_are_those_of_the_files_one_after_the_other(tmp_path: Path) -> None:
    paths = [written(tmp_path, name) for name in ("a.pcap", "b.pcap")]
    reading = OneByOne(capture_points(map(str, paths)), OPTIONS)

    windows = list(reading)

    assert sums(windows) == sums(w for path in paths for w in read_windows(path, 1.0)[0])
    assert [summary.frames for summary in reading.summaries] == [100, 100]
    assert reading.position == reading.total_bytes == sum(path.stat().st_size for path in paths)


def test_a_bin_at_the_seam_of_rotated_files_adds_up(tmp_path: Path) -> None:
    """The last frames of one file and the first of the next are of the same capture point and second."""
    written(tmp_path, "cap.pcap1", first=0)
    written(tmp_path, "cap.pcap2", first=9)

    found = sums(OneByOne(capture_points([str(tmp_path)]), OPTIONS))

    assert {point for point, _ in found} == {f"{tmp_path}/cap.pcap*"}
    frames = [sum(row[2] for row in rows.values()) for rows in found.values()]
    assert frames == [10] * 9 + [20] + [10] * 9


def test_what_keeps_it_from_the_whole_truth_is_told(tmp_path: Path) -> None:
    good, cut = written(tmp_path, "a.pcap"), written(tmp_path, "b.pcap", tail=b"\0" * 7)
    odd = tmp_path / "c.pcap"
    odd.write_bytes(pcap([(T0, bytes(60))], link=105))
    reading = OneByOne(capture_points(map(str, (good, cut, odd))), OPTIONS)

    list(reading)

    first, second = reading.warnings
    assert first.startswith(f"{cut}: reading stopped at byte {cut.stat().st_size - 7}")
    assert first.endswith("the 100 frames before that are counted")
    assert second.startswith(f"{odd}: 1 of 1 frames have no addresses")


def test_how_far_it_is_can_be_asked_on_the_way(tmp_path: Path) -> None:
    paths = [written(tmp_path, name) for name in ("a.pcap", "b.pcap")]
    reading = OneByOne(capture_points(map(str, paths)), OPTIONS)
    windows = iter(reading)

    before = reading.position
    next(windows)
    first = reading.position, [summary.path for summary in reading.summaries]
    list(windows)

    size = paths[0].stat().st_size
    assert before == 0
    assert first == (size, [str(paths[0])])
    assert reading.position == 2 * size


def test_the_last_file_of_all_can_be_followed(tmp_path: Path) -> None:
    old, new = written(tmp_path, "cap.pcap1"), written(tmp_path, "cap.pcap2", first=20)
    content = new.read_bytes()
    new.write_bytes(content[:1000])
    reading = OneByOne(capture_points([str(old), str(new)]), OPTIONS, follow=True)

    def write() -> None:
        with new.open("ab") as file:
            file.write(content[1000:])
        reading.stop()

    thread = threading.Timer(0.05, write)
    thread.start()
    windows = list(reading)
    thread.join()

    assert sum(window.total_frames for window in windows) == 200
    assert reading.total_bytes is None


def test_a_pipe_keeps_its_size_to_itself(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    reading = OneByOne((CapturePoint(name="pipe", files=(pipe,)),), OPTIONS)

    assert reading.total_bytes is None


def test_a_window_that_makes_no_sense_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="window"):
        OneByOne((), ReadingOptions(window_seconds=0))


def test_a_file_that_is_gone_when_its_turn_comes_is_named(tmp_path: Path) -> None:
    paths = [written(tmp_path, name) for name in ("a.pcap", "b.pcap")]
    reading = OneByOne(capture_points(map(str, paths)), OPTIONS)
    paths[1].unlink()

    with pytest.raises(UnreadableCapture, match=r"b\.pcap: No such file"):
        list(reading)
