"""Packed captures: each packing, cut short anywhere, damaged, in several members."""

import gzip
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import zstandard

from tests.unit.monitor.capture.capture_writing import frame, pcap, pcapng
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import CaptureReading, CaptureSummary, read_windows

Pack = Callable[[bytes], bytes]

T0 = 1_900_000_000_000_000_000
FRAMES = 3000
RECORD = 16 + 100
MANY = [(T0 + i * 1000_000, frame(1 + i * 7 % 11, 99, 100)) for i in range(FRAMES)]
CAPTURE = pcap(MANY)


def _zstandard(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def _lz4(data: bytes) -> bytes:
    return bytes(lz4.frame.compress(data, content_checksum=True))


def _zstandard_unpacker() -> Any:
    return zstandard.ZstdDecompressor().decompressobj()


PACKINGS = [
    pytest.param(gzip.compress, lambda: zlib.decompressobj(31), id="gzip"),
    pytest.param(_zstandard, _zstandard_unpacker, id="Zstandard"),
    pytest.param(_lz4, lz4.frame.LZ4FrameDecompressor, id="LZ4"),
]
PACKS = [pytest.param(param.values[0], id=param.id) for param in PACKINGS]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "unpacking"] == []


def read(folder: Path, content: bytes) -> CaptureSummary:
    path = folder / "tap.pcap.packed"
    path.write_bytes(content)
    windows, summary = read_windows(path, 1.0)
    assert sum(window.total_frames for window in windows) == summary.frames
    return summary


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    "capture", [pytest.param(CAPTURE, id="pcap"), pytest.param(pcapng(MANY), id="pcapng")]
)
def test_a_packed_capture_is_the_capture(tmp_path: Path, pack: Pack, capture: bytes) -> None:
    packed = pack(capture)

    summary = read(tmp_path, packed)

    assert (summary.frames, summary.bytes, summary.stopped) == (FRAMES, FRAMES * 100, None)
    assert summary.stored_bytes == len(packed)


@pytest.mark.parametrize(("pack", "unpacker"), PACKINGS)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.35, 0.5, 0.77, 0.999, 1.0])
def test_a_packed_file_cut_short_gives_all_that_it_holds_whole(
    tmp_path: Path, pack: Pack, unpacker: Callable[[], Any], share: float
) -> None:
    packed = pack(CAPTURE)
    cut = packed[: min(max(int(len(packed) * share), 5), len(packed) - 1)]
    unpacked = len(unpacker().decompress(cut))

    summary = read(tmp_path, cut)

    assert summary.frames == max(unpacked - 24, 0) // RECORD
    assert summary.stopped is not None
    assert summary.stopped.startswith(f"byte {len(cut)} of the ")
    assert "ends before" in summary.stopped


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("at", [0, 1, 24, 5000, len(CAPTURE) - 1])
def test_members_one_behind_the_other_are_one_capture(tmp_path: Path, pack: Pack, at: int) -> None:
    """`cat a.gz b.gz`, bgzip, pzstd and `lz4 -m` all make such files."""
    summary = read(tmp_path, pack(CAPTURE[:at]) + pack(CAPTURE[at:]))

    assert (summary.frames, summary.stopped) == (FRAMES, None)


@pytest.mark.parametrize("pack", PACKS)
def test_many_small_members_are_one_capture(tmp_path: Path, pack: Pack) -> None:
    members = [pack(CAPTURE[at : at + 700]) for at in range(0, len(CAPTURE), 700)]

    summary = read(tmp_path, b"".join(members))

    assert (summary.frames, summary.stopped) == (FRAMES, None)


@pytest.mark.parametrize("pack", PACKS)
def test_a_second_member_cut_short_gives_the_first_one_whole(tmp_path: Path, pack: Pack) -> None:
    at = 24 + 1000 * RECORD
    first, second = pack(CAPTURE[:at]), pack(CAPTURE[at:])

    summary = read(tmp_path, first + second[: len(second) // 2])

    assert 1000 <= summary.frames < FRAMES
    assert summary.stopped is not None
    assert summary.stopped.startswith(f"byte {len(first) + len(second) // 2} of the ")


def test_damage_in_a_gzip_file_is_told_to_the_byte_and_costs_no_frame_before_it(
    tmp_path: Path,
) -> None:
    """zlib throws away what it unpacked in the call that meets the damage: that call is made again in steps."""
    packed = bytearray(gzip.compress(CAPTURE, compresslevel=0))
    first_bytes = int.from_bytes(packed[11:13], "little")
    second_block = 10 + 5 + first_bytes
    packed[second_block] ^= 0x06  # a block of a kind that doesn't exist

    summary = read(tmp_path, bytes(packed))

    assert summary.frames == (first_bytes - 24) // RECORD
    assert summary.stopped == f"byte {second_block} of the gzip file: invalid block type"


@pytest.mark.parametrize("pack", PACKS)
def test_a_checksum_that_is_wrong_is_told_after_all_frames(tmp_path: Path, pack: Pack) -> None:
    packed = bytearray(pack(CAPTURE))
    packed[-5 if packed[0] == 0x1F else -1] ^= 1

    summary = read(tmp_path, bytes(packed))

    assert summary.stopped is not None
    assert " of the " in summary.stopped
    # LZ4 and Zstandard keep what a slice unpacked to for themselves when its end is wrong.
    assert summary.frames == FRAMES or packed[0] != 0x1F


@pytest.mark.parametrize("pack", PACKS)
def test_damage_in_the_middle_leaves_the_frames_before_it(tmp_path: Path, pack: Pack) -> None:
    noise = [(at, whole[:40] + hash_of(at) * 3) for at, whole in MANY]
    packed = bytearray(pack(pcap(noise)))
    half = len(packed) // 2
    packed[half : half + 64] = bytes(64)

    summary = read(tmp_path, bytes(packed))

    assert 0 <= summary.frames < FRAMES
    assert summary.stopped is not None


def hash_of(number: int) -> bytes:
    """Return bytes that can't be packed."""
    import hashlib

    return hashlib.sha256(str(number).encode()).digest()


def test_zeros_behind_a_gzip_file_are_padding(tmp_path: Path) -> None:
    summary = read(tmp_path, gzip.compress(CAPTURE) + bytes(100_000))

    assert (summary.frames, summary.stopped) == (FRAMES, None)


@pytest.mark.parametrize("pack", PACKS)
def test_something_else_behind_a_packed_file_is_told(tmp_path: Path, pack: Pack) -> None:
    packed = pack(CAPTURE)

    summary = read(tmp_path, packed + b"and so they lived happily ever after")

    assert summary.frames == FRAMES
    assert summary.stopped is not None
    assert summary.stopped.startswith(f"byte {len(packed)} of the ")


def test_a_frame_to_skip_may_begin_a_zstandard_file(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"

    summary = read(tmp_path, skipped + _zstandard(CAPTURE) + skipped)

    assert (summary.frames, summary.stopped) == (FRAMES, None)


def test_damage_of_the_capture_itself_is_told_by_its_place_in_what_was_unpacked(
    tmp_path: Path,
) -> None:
    at = 24 + 10 * RECORD

    summary = read(tmp_path, gzip.compress(CAPTURE[:at] + b"\xff" * 64))

    assert summary.frames == 10
    assert summary.stopped is not None
    assert summary.stopped.startswith(f"byte {at} of what it unpacks to: ")


def test_a_file_that_unpacks_to_very_much_is_unpacked_piece_by_piece(tmp_path: Path) -> None:
    """64 KiB of gzip may be 64 MiB of zeros: they are never in memory at once."""
    record = pcap([(T0, bytes(65535))])[24:]
    content = gzip.compress(CAPTURE[:24] + record * 1500)
    assert len(content) < 200_000

    assert read(tmp_path, content).frames == 1500


@pytest.mark.parametrize("pack", PACKS)
def test_a_reading_that_is_given_up_leaves_nothing_running(tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "tap.pcap.packed"
    path.write_bytes(pack(CAPTURE * 20))
    options = ReadingOptions(window_seconds=0.001, block_bytes=1024)
    windows = iter(CaptureReading(path, options))

    assert next(windows).total_frames == 1
    windows.close()  # type: ignore[attr-defined]
