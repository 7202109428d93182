"""What QEMU 10 really sends."""

import pytest

from tests.unit.execute.migration.stream.feeding import fed
from tests.unit.execute.migration.stream.reference import pages_of, pieces_of
from tests.unit.execute.migration.stream.seeds import SEEDS, seed
from transhume.execute.migration.stream import END_OF_MEMORY

NAMES = [pytest.param(name, id=name) for name in SEEDS]


@pytest.mark.parametrize("name", NAMES)
def test_all_pages_and_zero_pages_are_found(name):
    stream = seed(name)

    found = fed(stream, [1 << 16])

    assert found.pages == pages_of(stream)
    assert found.understanding.pages == len(found.pages)
    assert found.understanding.zero_pages == sum(p.zero_pages for p in pieces_of(stream))


@pytest.mark.parametrize("name", [name for name in SEEDS if name.endswith(".0")])
def test_all_is_understood_until_memory_has_ended(name):
    stream = seed(name)

    found = fed(stream)

    assert found.understanding.why_opaque == END_OF_MEMORY
    behind = [p.start for p in pieces_of(stream) if p.kind in {"end", "other section"}]
    assert found.understanding.opaque_from in behind[-2:]
    assert not any(page > found.understanding.opaque_from for page in pages_of(stream))


def test_a_stream_seems_complete_when_it_is():
    stream = seed("plain.0")
    found = fed(stream[:-1])
    assert found.understanding.memory_ends
    assert not found.understanding.seems_complete

    found.split(stream[-1:])

    assert found.understanding.seems_complete


@pytest.mark.parametrize("name", ["multifd.1", "multifd-legacy-zeros.1"])
def test_a_channel_is_understood_to_its_end(name):
    assert fed(seed(name)).understanding.opaque_from is None


def test_a_compressed_channel_is_opaque_from_its_first_compressed_packet():
    stream = seed("multifd-zstd.1")

    found = fed(stream)

    assert "multifd-compression is on" in found.understanding.why_opaque
    assert found.understanding.opaque_from == pieces_of(stream)[-1].start


def test_the_seeds_hold_what_their_names_say():
    kinds = {name: {piece.kind for piece in pieces_of(seed(name))} for name in SEEDS}

    assert "delta" in kinds["xbzrle.0"]
    assert "other section" in kinds["dirty-bitmap.0"] & kinds["virtio-mem.0"]
    assert "flush" in kinds["multifd.0"]
    assert sum(piece.kind == "command" for piece in pieces_of(seed("postcopy.0"))) > 10
