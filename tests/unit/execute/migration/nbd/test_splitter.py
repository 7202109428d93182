"""What an NBD client's bytes are taken for."""

import struct

import pytest

from tests.unit.execute.migration.nbd.client import (
    BLOCK_STATUS,
    DISCONNECT,
    EXPORT_NAME,
    EXTENDED_HEADERS,
    FLAGS,
    FLUSH,
    GO,
    LIST,
    PAGE,
    READ,
    STARTTLS,
    WRITE,
    WRITE_ZEROES,
    option,
    request,
    write,
)
from transhume.execute.migration.nbd import NbdSplitter

HEAD = FLAGS + option(EXTENDED_HEADERS) + option(GO, b"\0\0\0\4disk\0\0")
DATA = bytes(range(1, 251)) * 100


def pages_of(stream: bytes) -> list[int]:
    return NbdSplitter().split(stream).pages.tolist()


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_an_aligned_write_is_all_pages(extended: bool) -> None:
    stream = HEAD + write(8 * PAGE, DATA[: 3 * PAGE], extended=extended)
    first = len(stream) - 3 * PAGE

    assert pages_of(stream) == [first, first + PAGE, first + 2 * PAGE]


def test_a_write_that_is_not_aligned_has_pages_where_the_disk_has_them() -> None:
    stream = HEAD + write(3 * PAGE - 512, DATA[: 2 * PAGE])
    assert pages_of(stream) == [len(stream) - 2 * PAGE + 512]


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        pytest.param(0, PAGE - 1, id="too short"),
        pytest.param(1, 2 * PAGE - 2, id="between two boundaries"),
        pytest.param(PAGE, 0, id="empty"),
    ],
)
def test_a_write_without_a_whole_page_has_none(offset: int, length: int) -> None:
    splitter = NbdSplitter()
    stream = HEAD + write(offset, DATA[:length]) + write(0, DATA[:PAGE])

    assert splitter.split(stream).pages.tolist() == [len(stream) - PAGE]
    assert splitter.held_bytes == 0
    assert splitter.understanding.opaque_from is None


def test_an_export_may_be_asked_for_again_after_the_server_has_refused_it() -> None:
    stream = HEAD + option(LIST) + option(EXPORT_NAME, b"disk") + write(0, DATA[:PAGE])
    assert pages_of(stream) == [len(stream) - PAGE]


def test_payloads_of_other_requests_are_no_blocks_of_the_disk() -> None:
    filters = request(BLOCK_STATUS, 0, PAGE, extended=True, flags=32) + DATA[:PAGE]
    stream = HEAD + filters + write(0, DATA[:PAGE])
    assert pages_of(stream) == [len(stream) - PAGE]


def test_requests_without_payload_are_passed_and_zeroes_are_counted() -> None:
    splitter = NbdSplitter()
    asked = request(READ, 0, PAGE) + request(WRITE_ZEROES, 100, 3 * PAGE) + request(FLUSH, 0, 0)
    stream = HEAD + asked + write(0, DATA[:PAGE]) + request(DISCONNECT, 0, 0)

    assert splitter.split(stream).raw == stream
    assert splitter.understanding.zero_pages == 2
    assert splitter.understanding.pages == 1
    assert splitter.understanding.opaque_from is None


@pytest.mark.parametrize(
    ("understood", "strange", "why"),
    [
        pytest.param(b"", option(STARTTLS) + b"\x16\3\1", "TLS", id="STARTTLS"),
        pytest.param(b"", option(99) + HEAD[4:], "unknown option 99", id="unknown option"),
        pytest.param(b"", b"IHAVECAKE" + bytes(9), "no option", id="not quite an option"),
        pytest.param(option(GO), request(44, 0, 1), "unknown request 44", id="unknown request"),
        pytest.param(option(GO), b"GET / HTTP", "no request", id="no request"),
        pytest.param(option(LIST), request(READ, 0, 1), "no option", id="request too early"),
    ],
)
def test_from_what_is_unknown_on_all_is_opaque_and_still_passed(
    understood: bytes, strange: bytes, why: str
) -> None:
    splitter = NbdSplitter()
    stream = FLAGS + understood + strange + write(0, DATA[:PAGE])

    split = splitter.split(stream)

    assert split.raw == stream
    assert split.pages.tolist() == []
    assert splitter.held_bytes == 0
    assert why in splitter.understanding.why_opaque
    assert splitter.understanding.opaque_from == len(FLAGS + understood)


def test_an_older_client_is_opaque_from_its_first_byte() -> None:
    splitter = NbdSplitter()
    splitter.split(struct.pack(">I", 0) + HEAD)

    assert splitter.understanding.opaque_from == 0
    assert "newstyle" in splitter.understanding.why_opaque


def test_bytes_after_a_goodbye_are_opaque() -> None:
    splitter = NbdSplitter()
    stream = HEAD + request(DISCONNECT, 0, 0)
    splitter.split(stream)
    assert splitter.understanding.opaque_from is None

    assert splitter.split(b"more").raw == b"more"
    assert splitter.understanding.opaque_from == len(stream)


def test_no_more_than_an_incomplete_header_or_page_is_held_back() -> None:
    splitter = NbdSplitter()
    splitter.split(HEAD + request(WRITE, 0, 1 << 20)[:20])
    assert splitter.held_bytes == 20
    splitter.split(request(WRITE, 0, 1 << 20)[20:] + DATA[: PAGE + 7])
    assert splitter.held_bytes == 7
    assert splitter.flush().raw == DATA[PAGE : PAGE + 7]
    assert splitter.held_bytes == 0


def test_the_tail_of_a_write_that_can_be_no_page_is_not_held_back() -> None:
    splitter = NbdSplitter()
    splitter.split(HEAD + write(0, DATA[: PAGE + 512])[:-500])
    assert splitter.held_bytes == 0


def test_after_a_flush_in_a_page_the_next_page_is_found() -> None:
    splitter = NbdSplitter()
    stream = HEAD + write(0, DATA[: 2 * PAGE])
    splitter.split(stream[: -2 * PAGE + 100])
    splitter.flush()

    split = splitter.split(stream[-2 * PAGE + 100 :])

    assert split.pages.tolist() == [PAGE - 100]
    assert splitter.understanding.pages == 1


def test_a_header_that_is_flushed_piece_by_piece_is_still_understood() -> None:
    splitter = NbdSplitter()
    stream = HEAD + write(0, DATA[:PAGE], extended=True)
    for i in range(len(stream) - PAGE):
        splitter.split(stream[i : i + 1])
        splitter.flush()

    assert splitter.split(stream[-PAGE:]).pages.tolist() == [0]


def test_a_write_of_any_length_is_counted_and_not_collected() -> None:
    splitter = NbdSplitter()
    splitter.split(HEAD + request(WRITE, 0, 1 << 60, extended=True))
    for _ in range(10):
        assert len(splitter.split(DATA[: 2 * PAGE]).pages) == 2
    assert splitter.held_bytes == 0
