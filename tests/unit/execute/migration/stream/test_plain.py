"""The plain stream, record by record."""

import struct

import pytest

from tests.unit.execute.migration.stream.feeding import fed
from tests.unit.execute.migration.stream.stream_writing import BLOCKS, EOS, PAGE, Plain
from transhume.execute.migration.stream import END_OF_MEMORY

CONTENT = bytes(range(256)) * 16
HUGE, ADDRESS = 2 << 20, 0xFD00_0000


def begun() -> Plain:
    stream = Plain()
    stream.head()
    stream.begin_memory()
    stream.section(2, 1)
    return stream


def configured(name: bytes, body: bytes) -> bytes:
    return struct.pack(">BB", 5, len(name)) + name + struct.pack(">I", 1) + body


def expect_pages(stream: Plain, *, why: str = "") -> None:
    found = fed(stream.stream)
    assert found.pages == stream.pages
    assert found.understanding.why_opaque == why


def test_pages_that_name_their_block_and_pages_that_continue_in_it_are_found():
    stream = begun()
    for index, block in enumerate((b"pc.ram", b"pc.ram", b"pc.bios", b"pc.bios", b"pc.ram")):
        stream.page(index, CONTENT, block)

    expect_pages(stream)


def test_the_block_of_the_last_record_is_remembered_across_sections():
    stream = begun()
    stream.page(0, CONTENT)
    stream.end_memory()
    stream.section(2, 1)
    stream.page(1, CONTENT)

    expect_pages(stream)


def test_zero_pages_deltas_and_compressed_pages_are_passed_over():
    stream = begun()
    stream.zero(0)
    stream.delta(1, b"what has changed")
    stream.page(2, CONTENT)
    stream.compressed(3, b"zlib's")
    stream.page(4, CONTENT)

    expect_pages(stream)


def test_the_end_of_memory_is_told_as_such():
    """So that nobody is alarmed: the state of devices is never understood."""
    stream = begun()
    stream.end_memory()
    stream.section(3, 1)
    stream.page(0, CONTENT)
    stream.end_memory()
    end = len(stream.raw)
    stream.device()

    found = fed(stream.stream)

    assert found.pages == stream.pages
    assert found.understanding.why_opaque == END_OF_MEMORY
    assert found.understanding.opaque_from == end


def test_the_packaged_devices_of_postcopy_are_passed_over_though_they_look_like_memory():
    stream = begun()
    stream.page(0, CONTENT)
    stream.end_memory()
    stream.command(6, b"\0\0\6pc.ram" + bytes(16))
    stream.packaged(stream.stream)
    stream.section(2, 1)
    stream.page(1, CONTENT)

    expect_pages(stream)


def test_four_gigabytes_that_never_come_hold_nothing_back():
    stream = begun()
    stream.end_memory()
    stream.command(7, b"\xff\xff\xff\xff")
    stream.add(bytes(100_000))

    found = fed(stream.stream, [1000])

    assert found.splitter.held_bytes == 0
    assert found.understanding.opaque_from is None


@pytest.mark.parametrize(
    "extras",
    [
        pytest.param({}, id="names and lengths"),
        pytest.param({b"pc.ram": (HUGE,)}, id="the page size of one block"),
        pytest.param({b"pc.bios": (HUGE,)}, id="the page size of the last block"),
        pytest.param(dict.fromkeys(BLOCKS, (ADDRESS,)), id="addresses"),
        pytest.param(
            {b"pc.ram": (HUGE, 0), b"pc.bios": (ADDRESS,)}, id="addresses, and one page size"
        ),
    ],
)
def test_the_list_of_blocks_is_read_in_all_its_layouts(extras):
    stream = Plain()
    stream.head()
    stream.section(1, 1, b"ram", 4)
    stream.blocks(extras=extras)
    stream.end_memory()
    stream.section(2, 1)
    stream.page(7, CONTENT)

    expect_pages(stream)


def test_a_list_of_blocks_that_does_not_add_up_is_not_believed():
    stream = Plain()
    stream.head()
    stream.section(1, 1, b"ram", 4)
    stream.word(PAGE | 4)
    stream.add(b"\6pc.ram" + (2 * PAGE).to_bytes(8))
    stream.word(EOS)

    expect_pages(stream, why="a list of memory blocks that doesn't add up")


@pytest.mark.parametrize(
    "bits",
    [pytest.param(12, id="4 KiB"), pytest.param(14, id="16 KiB"), pytest.param(16, id="64 KiB")],
)
def test_larger_pages_are_several_of_ours(bits):
    stream = Plain(1 << bits)
    stream.head(configured(b"configuration/target-page-bits", bits.to_bytes(4)))
    stream.begin_memory()
    stream.section(2, 1)
    for index in range(3):
        stream.page(index, CONTENT * (1 << bits - 12))
    stream.zero(3)

    expect_pages(stream)
    assert len(stream.pages) == 3 << bits - 12


def test_smaller_pages_are_opaque():
    stream = Plain()
    stream.head(configured(b"configuration/target-page-bits", (10).to_bytes(4)))
    stream.begin_memory()

    expect_pages(stream, why="pages of 2^10 bytes")


def test_capabilities_and_a_uuid_in_the_configuration_are_read():
    stream = Plain()
    stream.head(
        configured(b"configuration/capabilities", b"\0\0\0\1\x0fx-ignore-shared")
        + configured(b"configuration/uuid", bytes(16))
    )
    stream.begin_memory()
    stream.section(2, 1)
    stream.page(0, CONTENT)

    expect_pages(stream)


def test_a_machine_older_than_configurations_and_footers_is_understood():
    stream = Plain()
    stream.add(b"QEVM\0\0\0\3")
    stream.section(1, 1, b"ram", 4)
    stream.blocks()
    stream.word(EOS)
    stream.section(2, 1)
    stream.page(0, CONTENT)

    expect_pages(stream)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        pytest.param(0x88, "a memory record of the unknown kind 0x88", id="RDMA's hook"),
        pytest.param(0x41 << 12 | 0x28, "", id="within the block"),
        pytest.param(64 << 20 | 0x28, "a page outside its memory block", id="behind the block"),
    ],
)
def test_a_record_that_nobody_knows_ends_the_understanding(word, why):
    stream = begun()
    stream.page(0, CONTENT)
    stream.word(word)

    expect_pages(stream, why=why)


def test_a_continued_record_without_one_to_continue_is_not_believed():
    stream = begun()
    stream.word(0x28)

    expect_pages(stream, why="a page outside its memory block")


def test_a_footer_of_another_section_ends_the_understanding():
    stream = begun()
    stream.end_memory(number=3)

    expect_pages(stream, why="section 1 ended as section 3")


def test_sections_without_number_end_the_understanding():
    stream = Plain()
    stream.head()
    for number in range(5000):
        stream.section(1, number, b"x", 1)
        stream.footer(number)

    expect_pages(stream, why="sections without end")


def test_a_thousand_zero_pages_in_a_row_are_counted_each():
    stream = begun()
    for index in range(1000):
        stream.zero(index)
    stream.page(0, CONTENT)
    for index in range(40):
        stream.zero(index)

    for sizes in ([], [997], [13]):
        found = fed(stream.stream, sizes)
        assert found.understanding.zero_pages == 1040
        assert found.pages == stream.pages
