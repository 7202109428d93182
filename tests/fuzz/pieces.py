"""One input of the fuzzer of streams, given to a splitter at once and in pieces."""

from tests.fuzz.stream import OPTIONS
from tests.unit.execute.migration.stream.feeding import expect_the_same_of_pieces


def try_input(raw: bytes) -> None:
    """Split an input; an exception says that something is wrong."""
    if len(raw) < OPTIONS:
        return
    size, when = raw[:OPTIONS]
    flushes = [bool(when >> bit & 1) for bit in range(8)]
    expect_the_same_of_pieces(raw[OPTIONS:], [size * 32 + 100, size + 1], flushes)
