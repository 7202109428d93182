"""Whatever a stream is, and however it comes: its bytes go out as they came, and pages are where they are."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.execute.migration.stream.feeding import expect_the_same_of_pieces, fed, uncut
from tests.unit.execute.migration.stream.reference import pages_of
from tests.unit.execute.migration.stream.seeds import SEEDS, seed
from tests.unit.execute.migration.stream.stream_writing import any_multifd, any_plain

RECORDED = [pytest.param(name, id=name) for name in SEEDS]
WRITERS = [pytest.param(any_plain, id="plain"), pytest.param(any_multifd, id="multifd")]
randoms = st.integers(0, 1 << 32).map(Random)
sizes = st.lists(
    st.one_of(st.integers(1, 20), st.integers(1, 9000), st.integers(1, 1 << 17)),
    min_size=1,
    max_size=8,
).filter(lambda sizes: sum(sizes) > 100 * len(sizes))
flushes = st.lists(st.booleans(), min_size=1, max_size=8)


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=examples(300))
@given(random=randoms, sizes=sizes)
def test_every_page_of_a_healthy_stream_is_found_however_it_is_cut(writer, random, sizes):
    written = writer(random)

    found = fed(written.stream, sizes)

    assert found.pages == written.pages
    assert found.understanding.pages == len(written.pages)
    assert found.understanding.zero_pages == written.zero_pages


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=examples(300))
@given(random=randoms, sizes=sizes, flushes=flushes)
def test_flushes_cost_only_the_pages_that_they_cut(writer, random, sizes, flushes):
    written = writer(random)

    found = fed(written.stream, sizes, flushes)

    assert found.pages == uncut(written.pages, found.flushed_at)
    assert found.understanding.pages == len(written.pages)
    assert found.understanding.zero_pages == written.zero_pages


@pytest.mark.parametrize("name", RECORDED)
@settings(max_examples=examples(5))
@given(sizes=sizes, flushes=flushes)
def test_a_recorded_stream_is_read_as_a_slow_reader_reads_it(name, sizes, flushes):
    stream = seed(name)

    assert fed(stream, sizes).pages == pages_of(stream)
    flushed = fed(stream, sizes, flushes)
    assert flushed.pages == uncut(pages_of(stream), flushed.flushed_at)


@settings(max_examples=examples(600))
@given(random=randoms, sizes=sizes, flushes=flushes)
def test_a_damaged_stream_comes_out_as_damaged_as_it_was(random, sizes, flushes):
    expect_the_same_of_pieces(damaged(random), sizes, flushes)


@settings(max_examples=examples(600))
@given(stream=st.binary(max_size=3000), sizes=sizes, flushes=flushes, plain=st.booleans())
def test_noise_comes_out_as_it_was(stream, sizes, flushes, plain):
    magic = b"QEVM\0\0\0\3" if plain else b"\x11\x22\x33\x44\0\0\0\1"
    expect_the_same_of_pieces(magic + stream, sizes, flushes)


def damaged(random: Random) -> bytes:
    """Draw a stream, and change, cut out, or put in what doesn't belong there."""
    stream = bytearray(_any_stream(random))
    for _ in range(random.randrange(1, 5)):
        at = random.randrange(len(stream) + 1)
        length = random.choice((1, 1, 4, 9, 4104))
        match random.randrange(4):
            case 0:
                stream[at : at + length] = random.randbytes(length)
            case 1:
                del stream[at : at + length]
            case 2:
                other = _any_stream(random)
                begin = random.randrange(len(other) + 1)
                stream[at:at] = other[begin : begin + random.choice((9, 4104, 20_000))]
            case _:
                del stream[at:]
    return bytes(stream)


def _any_stream(random: Random) -> bytes:
    if random.random() < 0.2:
        recorded = seed(random.choice([name for name in SEEDS if name not in _LARGE]))
        return recorded[: 1 << random.randrange(8, 18)]
    return random.choice((any_plain, any_multifd))(random).stream


_LARGE = {"multifd.1", "multifd-legacy-zeros.1"}
