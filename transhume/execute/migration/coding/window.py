"""One zstd stream for all new pages of a domain, with a long window at both ends.

The window finds what whole pages hide: kernels at other addresses, shifted heaps, a page that was sent before
with a few bytes less. It makes explicit deltas needless.
"""

from io import RawIOBase
from typing import IO, cast

import zstandard

from transhume.execute.migration.coding.frame import BadFrame

WINDOW_LOG = 27
"""128 MiB, at each end, for a domain."""
FASTEST = 1
"""The level that is taken where nothing speaks for another one."""
_MATCH_BYTES, _ONE_POSITION_IN, _POSITIONS = 64, 8, 19
"""What the search in the window looks for, and (as logarithms) how many positions it notes and remembers. With
half as many as by default it takes half the time, and finds all but a hundredth; they cover the window."""


class Compressor:
    """The sending end."""

    def __init__(self) -> None:
        self._level = FASTEST
        self._stream = _stream(FASTEST)

    def compress(self, data: bytes | memoryview, level: int = FASTEST) -> bytes:
        """Return what makes the other end's window give `data`; a change of level empties the window."""
        ended = b""
        if level != self._level:
            ended = self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH)
            self._level, self._stream = level, _stream(level)
        content = self._stream.compress(data)
        return ended + content + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


class Decompressor:
    """The receiving end."""

    def __init__(self, window_log: int = WINDOW_LOG) -> None:
        self._inbox = _Inbox()
        self._stream = zstandard.ZstdDecompressor(max_window_size=1 << window_log).stream_reader(
            cast("IO[bytes]", self._inbox), read_across_frames=True
        )

    def decompress(self, data: bytes | memoryview, size: int) -> bytes:
        """Return the `size` bytes that `data` stands for; never makes more of it.

        Raises:
            BadFrame: it stands for less, or for nothing; this end can't go on after that.
        """
        self._inbox.content = bytes(data)
        try:
            found = self._stream.read(size)
        except zstandard.ZstdError as error:
            raise BadFrame(f"new pages can't be decompressed: {error}") from error
        if len(found) != size or self._inbox.content:
            raise BadFrame(f"new pages have {len(found)} bytes instead of {size}")
        return found


def _stream(level: int) -> "zstandard.ZstdCompressionObj":
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        window_log=WINDOW_LOG,
        enable_ldm=True,
        ldm_min_match=_MATCH_BYTES,
        ldm_hash_rate_log=_ONE_POSITION_IN,
        ldm_hash_log=_POSITIONS,
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


class _Inbox(RawIOBase):
    """A file whose content is what was last put into it."""

    content = b""

    def read(self, _size: int = -1) -> bytes:
        """Return all that there is."""
        content, self.content = self.content, b""
        return content
