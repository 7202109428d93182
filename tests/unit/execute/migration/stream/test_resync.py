"""Sections of which nothing is known: their end is found, and memory behind it."""

import pytest

from tests.unit.execute.migration.stream.feeding import Fed, fed
from tests.unit.execute.migration.stream.stream_writing import Plain

CONTENT = b"page" * 1024
FOOTER = b"\x7e\0\0\0\2"


def with_another_section(contents: bytes, *, before_memory: bool = False) -> Plain:
    stream = Plain()
    stream.head()
    if before_memory:
        stream.section(4, 2, b"virtio-mem-device-early", 1)
        stream.add(contents)
        stream.footer(2)
    stream.begin_memory()
    if not before_memory:
        stream.section(1, 2, b"dirty-bitmap", 1)
        stream.add(contents)
        stream.footer(2)
    stream.section(2, 1)
    stream.page(0, CONTENT)
    stream.end_memory()
    return stream


@pytest.mark.parametrize("before_memory", [False, True], ids=["amid memory", "before memory"])
@pytest.mark.parametrize("size", [5000, 7, 1])
@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(3000), id="zeros"),
        pytest.param(FOOTER * 300, id="footers"),
        pytest.param((FOOTER + b"\2\0\0\0\7") * 300, id="footers and sections that never began"),
        pytest.param(b"\x7e" * 5000, id="the first byte of footers"),
    ],
)
def test_memory_behind_another_section_is_found(contents, size, before_memory):
    stream = with_another_section(contents, before_memory=before_memory)

    found = fed(stream.stream, [size])

    assert found.pages == stream.pages
    assert found.understanding.opaque_from is None
    assert found.understanding.why_opaque == ""


def test_who_is_lost_says_where_and_in_what():
    stream = Plain()
    stream.head()
    stream.begin_memory()
    begin = len(stream.raw)
    stream.section(1, 2, b"0000:00:02.0/vfio", 1)
    stream.add(bytes(1000))

    found = fed(stream.stream)

    assert found.understanding.opaque_from == begin
    assert "0000:00:02.0/vfio" in found.understanding.why_opaque


def test_a_false_end_costs_pages_and_no_byte():
    stream = with_another_section(FOOTER + b"\2\0\0\0\1" + b"no record" * 9)

    found = fed(stream.stream)

    assert found.pages == []
    assert found.understanding.opaque_from is not None


@pytest.mark.parametrize(
    "follow",
    [
        pytest.param(lambda s: s.command(2, b"\0\0\0\1"), id="a ping"),
        pytest.param(lambda s: s.command(6, b"\0\0\6pc.ram" + bytes(16)), id="discards"),
        pytest.param(lambda s: s.packaged(b"devices"), id="packaged devices"),
        pytest.param(lambda s: (s.section(2, 2), s.footer(2)), id="more of the same"),
        pytest.param(lambda s: (s.section(1, 3, b"vfio", 1), s.footer(3)), id="a third section"),
    ],
)
def test_other_things_than_memory_may_follow(follow):
    stream = with_another_section(b"contents")
    stream.section(2, 2)
    stream.add(b"contents")
    stream.footer(2)
    follow(stream)
    stream.section(2, 1)
    stream.page(1, CONTENT)

    for size in (len(stream.raw), 3):
        assert fed(stream.stream, [size]).pages == stream.pages


def test_gigabytes_of_another_section_hold_nothing_back():
    stream = Plain()
    stream.head()
    stream.begin_memory()
    stream.section(1, 2, b"vfio", 1)
    found = Fed()
    found.split(stream.stream)
    for _ in range(50):
        found.split(b"\x7e\0" * 100_000)
        assert found.splitter.held_bytes == 0
