"""Parts of a capture: however they are cut, they add up to what one reading gives."""

import pickle
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import read_windows
from transhume.monitor.capture.parts import (
    Joining,
    Known,
    Part,
    PartRead,
    can_be_cut,
    cut,
    read_part,
    sharing_addresses,
)

T0 = 1_900_000_000_000_000_000
MANY = [(T0 + i * 700_000, frame(1 + i * 7 % 40, 9, 60 + i % 1200)) for i in range(12_000)]
OPTIONS = ReadingOptions(window_seconds=0.1)
PART_BYTES = 1 << 20


def written(folder: Path, content: bytes) -> Path:
    path = folder / "tap.pcap"
    path.write_bytes(content)
    return path


def joined(path: Path, parts: Iterable[Part]) -> tuple[Sums, Joining]:
    """Read parts as another process would, and join them."""

    def read(part: Part) -> PartRead:
        found = read_part(pickle.loads(pickle.dumps(part)), str(path), OPTIONS)
        return pickle.loads(pickle.dumps(found))

    joining = Joining(read)
    windows: list[TrafficWindow] = []
    for part in parts:
        windows += joining.add(read(part))
    return sums(windows), joining


def whole(path: Path) -> tuple[Sums, int, str | None]:
    windows, summary = read_windows(path, OPTIONS)
    return sums(windows), summary.frames, summary.stopped


CAPTURES = [
    pytest.param(pcap(MANY), id="pcap"),
    pytest.param(pcap(MANY, order=">", nanoseconds=True), id="pcap, big-endian, ns"),
    pytest.param(pcap(MANY, snaplen=96), id="pcap, snaplen 96"),
    pytest.param(pcapng(MANY), id="pcapng"),
    pytest.param(pcapng(MANY, order=">"), id="pcapng, big-endian"),
]


@pytest.mark.parametrize("content", CAPTURES)
def test_parts_add_up_to_the_whole(tmp_path: Path, content: bytes) -> None:
    path = written(tmp_path, content)

    parts = tuple(cut(path, PART_BYTES))
    found, joining = joined(path, parts)

    assert len(parts) == -(-len(content) // PART_BYTES)
    assert (found, joining.totals.frames, joining.stopped) == whole(path)
    assert joining.parts_read_again == 0


@pytest.mark.parametrize("content", CAPTURES)
@pytest.mark.parametrize("off_by", [-3000, -1, 1, 60, 200_000])
def test_a_part_that_is_begun_wrongly_is_read_again(
    tmp_path: Path, content: bytes, off_by: int
) -> None:
    """The guess is never trusted: only a part that begins where the one before really ended counts."""
    path = written(tmp_path, content)
    first, second, *rest = cut(path, PART_BYTES)
    at = second.known.at + off_by
    wrong = (replace(first, end=at), replace(second, known=replace(second.known, at=at)), *rest)

    found, joining = joined(path, wrong)

    assert (found, joining.totals.frames, joining.stopped) == whole(path)
    assert joining.parts_read_again >= 1


def test_a_captured_transfer_of_a_capture_is_no_place_to_begin(tmp_path: Path) -> None:
    """Its frames hold chains of good records; a part that is begun in one is read again."""
    inner = pcap([(T0 + i, frame(200, 201, 60)) for i in range(600)])[24:]
    outer = [(T0 + i * 1_000_000, frame(1, 2) + inner) for i in range(60)]
    path = written(tmp_path, pcap(outer))
    parts = tuple(cut(path, 300_000))

    within = 24 + 16 + 60 + 76 * 100
    first, *rest = parts
    wrong = (
        replace(first, end=within),
        Part(
            path=path, known=replace(rest[0].known, at=within), end=rest[0].known.at, is_last=False
        ),
        *rest,
    )
    found, joining = joined(path, wrong)

    assert (found, joining.totals.frames, joining.stopped) == whole(path)
    assert joining.totals.frames == 60
    assert joining.parts_read_again >= 1


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(200, 900_000), max_size=8, unique=True),
    order=st.sampled_from(["<", ">"]),
    form=st.sampled_from([pcap, pcapng]),
)
def test_parts_cut_anywhere_add_up_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], order: str, form: object
) -> None:
    content = (pcap if form is pcap else pcapng)(MANY[:1300], order=order)
    path = written(tmp_path_factory.mktemp("parts"), content)
    front = next(cut(path, 1 << 30))
    head = read_part(front, "", OPTIONS).after.front
    begins = [0, *sorted(at for at in cuts if at < len(content))]
    ends = [*begins[1:], len(content)]
    parts = tuple(
        Part(
            path=path,
            known=Known(at=begin, head=head, front=head) if begin else Known(),
            end=end,
            is_last=end == len(content),
        )
        for begin, end in zip(begins, ends, strict=True)
    )

    found, joining = joined(path, parts)

    assert (found, joining.totals.frames, joining.stopped) == whole(path)


def test_sections_and_interfaces_on_the_way_are_known_behind_them(tmp_path: Path) -> None:
    """A part that was begun with the file's first interfaces only is read again with those that came since."""
    thousands = [MANY[i : i + 3000] for i in range(0, 12_000, 3000)]
    two = section() + interface(resolution=9) + interface(link=101, resolution=9)
    two += b"".join(packet(whole[14:], at, number=1) for at, whole in thousands[1])
    content = pcapng(thousands[0]) + two + pcapng(thousands[2]) + pcapng(thousands[3])
    path = written(tmp_path, content)

    found, joining = joined(path, cut(path, PART_BYTES))

    assert (found, joining.totals.frames, joining.stopped) == whole(path)
    assert joining.totals.frames == 12_000
    assert joining.parts_read_again > 0
    assert joining.known.head is not None
    assert len(joining.known.head.interfaces) == 5


def test_frames_without_a_time_take_it_from_the_part_before(tmp_path: Path) -> None:
    """A part that begins with such can't know it, and is read again."""
    simple = [block(3, len(whole).to_bytes(4, "little") + whole) for _, whole in MANY[:4000]]
    content = section() + interface(resolution=9)
    content += packet(MANY[0][1], MANY[0][0]) + b"".join(simple)
    path = written(tmp_path, content)

    parts = tuple(cut(path, PART_BYTES))
    found, joining = joined(path, parts)

    assert len(parts) > 1
    assert (found, joining.totals.frames, joining.stopped) == whole(path)
    assert joining.parts_read_again == len(parts) - 1
    assert len(found) == 1


def test_damage_ends_the_whole_where_it_ends_one_reading(tmp_path: Path) -> None:
    content = bytearray(pcap(MANY))
    at = list(cut(written(tmp_path, bytes(content)), PART_BYTES))[2].known.at
    content[at : at + 16] = b"\xff" * 16
    path = written(tmp_path, bytes(content))

    found, joining = joined(path, cut(path, PART_BYTES))

    windows, frames, stopped = whole(path)
    assert (found, joining.totals.frames) == (windows, frames)
    assert str(joining.stopped) == stopped
    assert joining.is_over


def test_a_last_record_that_is_cut_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, pcap(MANY)[:-10])

    found, joining = joined(path, cut(path, PART_BYTES))

    windows, frames, stopped = whole(path)
    assert (found, joining.totals.frames, str(joining.stopped)) == (windows, frames, stopped)


def test_what_is_no_capture_is_one_part(tmp_path: Path) -> None:
    path = written(tmp_path, b"a letter" * 300_000)

    assert tuple(cut(path, PART_BYTES)) == (
        Part(path=path, known=Known(), end=2_400_000, is_last=True),
    )


def test_only_stored_files_that_are_not_packed_can_be_cut(tmp_path: Path) -> None:
    import gzip
    import os

    plain = written(tmp_path, pcap(MANY[:10]))
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    os.mkfifo(tmp_path / "fifo")

    assert [can_be_cut(path) for path in (plain, packed, tmp_path / "fifo")] == [True, False, False]


def test_windows_in_a_message_share_their_addresses(tmp_path: Path) -> None:
    """A table that has grown a little with each of a thousand windows would be sent a thousand times."""
    steady = [(T0 + i * 1_000_000, frame(1 + i // 20, 9)) for i in range(4000)]
    options = ReadingOptions(window_seconds=0.01, block_bytes=4096)
    windows, _ = read_windows(written(tmp_path, pcap(steady)), options)

    shared = sharing_addresses(windows)

    assert sums(shared) == sums(windows)
    assert len({id(window.addresses) for window in windows}) > 20
    assert len({id(window.addresses) for window in shared}) < 20
    assert len(pickle.dumps(shared)) < 600_000
