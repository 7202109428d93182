"""What holds of the splitter, whatever the stream."""

import pytest

from tests.unit.execute.migration.stream.feeding import Fed, fed
from tests.unit.execute.migration.stream.stream_writing import PAGE, Plain
from transhume.execute.migration.splitting import Splitter
from transhume.execute.migration.stream import QemuSplitter
from transhume.execute.migration.stream.plain import PlainGrammar

CONTENT = b"page" * 1024


def begun() -> Plain:
    stream = Plain()
    stream.head()
    stream.begin_memory()
    stream.section(2, 1)
    stream.page(0, CONTENT)
    return stream


def test_it_is_a_splitter():
    splitter: Splitter = QemuSplitter()

    assert splitter.flush().raw == b""
    assert splitter.split(b"").raw == b""


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        pytest.param(b"NBDMAGICIHAVEOPT", "neither a migration stream", id="of another protocol"),
        pytest.param(b"\x08\0\1\0\0", "neither a migration stream", id="of a resumed postcopy"),
        pytest.param(b"\x16\3\1\2\0\1", "TLS", id="encrypted by QEMU"),
    ],
)
def test_an_unknown_stream_is_opaque_from_its_first_byte(stream, why):
    for size in (100, 1):
        found = fed(stream, [size])

        assert found.understanding.opaque_from == 0
        assert why in found.understanding.why_opaque


def test_nothing_is_held_of_a_header_that_is_not_all_there():
    stream, found = begun().stream, Fed()
    for at in range(len(stream) - PAGE):
        found.split(stream[at : at + 1])

        assert found.splitter.held_bytes == 0


def test_a_page_is_held_until_it_is_whole():
    stream, found = begun(), Fed()
    found.split(stream.stream[:-1])
    assert found.pages == []
    assert found.splitter.held_bytes == PAGE - 1

    found.split(stream.stream[-1:])

    assert found.pages == stream.pages
    assert found.splitter.held_bytes == 0


def test_a_flush_costs_the_page_that_it_cuts_and_no_other():
    stream, found = begun(), Fed()
    stream.page(1, CONTENT)
    found.split(stream.stream[: stream.pages[0] + 100])
    found.flush()

    found.split(stream.stream[stream.pages[0] + 100 :])

    assert found.pages == stream.pages[1:]
    assert found.understanding.pages == 2
    assert found.given == stream.raw


def test_what_goes_out_whole_is_not_copied():
    stream = begun().stream
    view = memoryview(stream)

    assert QemuSplitter().split(view).raw is view


def test_a_mistake_of_ours_costs_understanding_and_no_byte(monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    stream, found = begun(), Fed()
    found.split(stream.stream[:-1])
    stream.page(1, CONTENT)
    monkeypatch.setattr(PlainGrammar, "read", fail)

    found.split(stream.stream[stream.pages[0] + PAGE - 1 :])
    found.flush()

    assert found.given == stream.raw
    assert "ZeroDivisionError" in found.understanding.why_opaque


def test_a_header_without_an_end_is_given_up():
    stream = Plain()
    stream.head()
    stream.section(1, 1, b"ram", 4)
    stream.word(1 << 40 | 4)
    for number in range(1000):
        name = b"%0200d" % number
        stream.add(bytes([len(name)]) + name + (1 << 20).to_bytes(8))

    for size in (1 << 20, 5000):
        assert fed(stream.stream, [size]).understanding.why_opaque == "a header without an end"
