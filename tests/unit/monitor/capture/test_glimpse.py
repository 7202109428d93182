"""What the front of a file tells, without reading the rest."""

import gzip
import os
from pathlib import Path

import pytest

from tests.unit.monitor.capture.capture_writing import frame, pcap, pcapng
from transhume.monitor.capture.glimpse import expected_frames, glimpse

T0 = 1_900_000_000_000_000_000
MANY = [(T0 + i * 1_000_000, frame(1 + i % 5, 9, 200)) for i in range(5000)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pcap(MANY), id="pcap"),
        pytest.param(pcapng(MANY), id="pcapng"),
        pytest.param(gzip.compress(pcap(MANY)), id="gzip"),
        pytest.param(pcap(MANY)[:1000], id="cut short"),
        pytest.param(pcap(MANY[:3]) + b"\xff" * 40, id="damaged"),
    ],
)
def test_a_capture_tells_when_it_begins(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tap.pcap"
    path.write_bytes(content)

    found = glimpse(path)

    assert found is not None
    assert found.first_ns == T0


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"a", id="a byte"),
        pytest.param(b"a letter", id="text"),
        pytest.param(gzip.compress(b"a letter"), id="packed text"),
    ],
)
def test_what_is_no_capture_tells_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter"
    path.write_bytes(content)

    assert glimpse(path) is None
    assert expected_frames([path]) < 10


def test_a_capture_without_frames_does_not_tell_when_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "tap.pcap"
    path.write_bytes(pcap([]))

    found = glimpse(path)

    assert found is not None
    assert found.first_ns is None


def test_the_number_of_frames_is_guessed_over_all_files(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b"]
    paths[0].write_bytes(pcap(MANY))
    paths[1].write_bytes(pcapng(MANY))

    assert expected_frames(paths) == pytest.approx(10_000, rel=0.05)


def test_guessing_ends_when_it_is_enough(tmp_path: Path) -> None:
    """Hundreds of files needn't all be looked at to know that they are many frames."""
    path = tmp_path / "a"
    path.write_bytes(pcap(MANY))

    assert expected_frames([path] * 100, enough=4_000) < 12_000


def test_a_pipe_is_left_alone(tmp_path: Path) -> None:
    """What is read of it is gone, and nobody knows what it will give."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    assert expected_frames([pipe, Path("-")]) == 0
