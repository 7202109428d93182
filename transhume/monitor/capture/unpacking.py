"""Packed captures as plain bytes: gzip, Zstandard and LZ4, told apart by how they begin.

Owns a thread that unpacks ahead of the reader, a few blocks and no more, because unpacking takes longer than
all that is done with the frames. Members and frames that follow one another are one stream, as their tools have
it. What is damaged or cut short gives all that can be unpacked before, and says at which byte of the packed
file that was: exactly for gzip, to within a slice of some KiB for the others.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from transhume.monitor.capture.sources import Source

MAGIC_BYTES = 4
_PACKED_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20
_PIECES_AHEAD = 3
_PAUSE_SECONDS = 0.02
"""How long a reader waits for another piece once it has one."""


class _Damaged(Exception):
    """Packed data that can't be what it should be, `at` bytes into what was handed over."""

    def __init__(self, at: int, why: str) -> None:
        self.at, self.why = at, why
        super().__init__(why)


class _Member(Protocol):
    """One member or frame being unpacked."""

    @property
    def finished(self) -> bool:
        """Whether its proper end was met."""

    @property
    def rest(self) -> bytes:
        """What follows its end in the data given last."""

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield what some more data unpacks to, in pieces of bounded size; raises `_Damaged`."""


@dataclass(frozen=True, slots=True)
class Packing:
    """A way to pack."""

    name: str
    slice_bytes: int
    """How much is unpacked at once. No slice unpacks to more than memory can bear: a Zstandard block of 128 KiB
    can be packed into 4 bytes, LZ4 packs to no less than 1/255."""
    begin: Callable[[], _Member]


def packing_of(first: bytes) -> Packing | None:
    """Return how a file is packed that begins with these bytes; None where it isn't."""
    if first[:2] == b"\x1f\x8b":
        return _GZIP
    if first[:4] == b"\x28\xb5\x2f\xfd" or (first[1:4] == b"\x2a\x4d\x18" and first[0] >> 4 == 5):
        return _ZSTANDARD  # the second is a frame to skip, with which some tools begin
    return _LZ4 if first[:4] == b"\x04\x22\x4d\x18" else None


class Unpacking:
    """The unpacked bytes of a packed source, which it closes in the end."""

    packed = True

    def __init__(self, packed: "Source", packing: Packing, stop: Event) -> None:
        self._packed = packed
        self._packing = packing
        self._stop = stop
        self._closed = Event()
        self._pieces: Queue[bytes | None] = Queue(_PIECES_AHEAD)
        self._piece: memoryview | None = memoryview(b"")
        self._damage: str | None = None
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._unpack_ahead, name="unpacking", daemon=True)
        self._thread.start()

    @property
    def position(self) -> int:
        """How many bytes of the packed file were read."""
        return self._packed.position

    @property
    def stopped(self) -> str | None:
        """Where the packed file is damaged or ends too early; None where all is well."""
        return self._packed.stopped or self._damage

    def read(self, into: memoryview) -> int:
        """Read some unpacked bytes: all that was unpacked by now and fits."""
        filled = 0
        while filled < len(into) and self._has_piece(wait=not filled):
            assert self._piece is not None
            count = min(len(into) - filled, len(self._piece))
            into[filled : filled + count] = self._piece[:count]
            self._piece = self._piece[count:]
            filled += count
        if not filled and self._failure is not None:
            raise self._failure
        return filled

    def _has_piece(self, *, wait: bool) -> bool:
        """Say whether there is something to hand out now; None in place of a piece is the end."""
        while self._piece is not None and not self._piece:
            try:
                found = self._pieces.get(timeout=None if wait else _PAUSE_SECONDS)
            except Empty:
                return False
            self._piece = None if found is None else memoryview(found)
        return self._piece is not None

    def close(self) -> None:
        """Stop unpacking, and let go of the file."""
        self._closed.set()
        self._stop.set()  # wakes a thread that waits for a pipe
        while self._thread.is_alive():
            self._drop_pieces()
            self._thread.join(timeout=0.01)
        self._packed.close()

    def _drop_pieces(self) -> None:
        while not self._pieces.empty():
            self._pieces.get()

    def _unpack_ahead(self) -> None:
        try:
            for piece in self._unpacked():
                self._pieces.put(piece)
                if self._closed.is_set():
                    return
        except BaseException as failure:  # noqa: BLE001  (raised again where it is read)
            self._failure = failure
        finally:
            self._pieces.put(None)

    def _unpacked(self) -> Iterator[bytes]:
        """Yield pieces of about a MiB, or what one reading of the source gave."""
        members = _Members(self._packing)
        buffer = memoryview(bytearray(_PACKED_BYTES))
        try:
            while count := self._packed.read(buffer):
                yield from _joined(members.unpack(bytes(buffer[:count])))
            members.finish()
        except _Damaged as damage:
            self._damage = f"byte {damage.at} of the {self._packing.name} file: {damage.why}"


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces; what comes before damage is handed out before the damage is raised."""
    waiting: list[bytes] = []
    size = 0
    try:
        for piece in pieces:
            waiting.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                yield b"".join(waiting)
                waiting, size = [], 0
    except _Damaged:
        yield b"".join(waiting)
        raise
    yield b"".join(waiting)


class _Members:
    """Unpacks one member after the other, and knows how far it is in the packed file."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._member: _Member | None = None
        self._at = 0

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield what some more data unpacks to; raises `_Damaged` with a place in the packed file."""
        size = self._packing.slice_bytes
        for begin in range(0, len(data), size):
            yield from self._unpack_slice(data[begin : begin + size])

    def finish(self) -> None:
        """Raise `_Damaged` unless the last member has ended."""
        if self._member is not None:
            raise _Damaged(self._at, "it ends before what was packed does")

    def _unpack_slice(self, data: bytes) -> Iterator[bytes]:
        while data := self._without_padding(data):
            member = self._member or self._begin(data)
            try:
                yield from member.unpack(data)
            except _Damaged as damage:
                raise _Damaged(self._at + damage.at, damage.why) from None
            rest = member.rest if member.finished else b""
            self._member = None if member.finished else member
            self._at += len(data) - len(rest)
            data = rest

    def _without_padding(self, data: bytes) -> bytes:
        """Return data without the zeros that tapes and some tools put between members and behind them."""
        if self._member is not None:
            return data
        packed = data.lstrip(b"\0")
        self._at += len(data) - len(packed)
        return packed

    def _begin(self, data: bytes) -> _Member:
        if len(data) >= MAGIC_BYTES and packing_of(data) is None:
            raise _Damaged(self._at, "what follows is something else")
        return self._packing.begin()


class _GzipMember:
    """A member of a gzip file."""

    def __init__(self) -> None:
        self._inflating: Any = zlib.decompressobj(wbits=31)

    @property
    def finished(self) -> bool:
        return bool(self._inflating.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._inflating.unused_data)

    def unpack(self, data: bytes) -> Iterator[bytes]:
        size = len(data)
        more = True
        while more:
            before = self._inflating.copy()
            try:
                piece = self._inflating.decompress(data, _PIECE_BYTES)
            except zlib.error:
                yield from _all_before_damage(before, data, size - len(data))
                return
            yield piece
            data = self._inflating.unconsumed_tail
            more = not self.finished and (bool(data) or len(piece) == _PIECE_BYTES)


def _all_before_damage(inflating: Any, data: bytes, at: int) -> Iterator[bytes]:
    """Unpack byte by byte: zlib throws away what it unpacked in the call that meets the damage."""
    for number in range(len(data)):
        try:
            yield inflating.decompress(data[number : number + 1])
        except zlib.error as error:
            raise _Damaged(at + number, str(error).partition(": ")[2]) from None


class _Frame:
    """A Zstandard or LZ4 frame; `error` is what its library raises."""

    def __init__(self, unpacking: Any, error: type[Exception]) -> None:
        self._unpacking = unpacking
        self._error = error

    @property
    def finished(self) -> bool:
        return bool(self._unpacking.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._unpacking.unused_data or b"")

    def unpack(self, data: bytes) -> Iterator[bytes]:
        try:
            yield self._unpacking.decompress(data)
        except self._error as error:
            raise _Damaged(0, str(error)) from None


def _zstandard_frame() -> _Member:
    import zstandard

    return _Frame(zstandard.ZstdDecompressor().decompressobj(), zstandard.ZstdError)


def _lz4_frame() -> _Member:
    from lz4.frame import LZ4FrameDecompressor

    return _Frame(LZ4FrameDecompressor(), RuntimeError)


_GZIP = Packing("gzip", 64 << 10, _GzipMember)
_ZSTANDARD = Packing("Zstandard", 4 << 10, _zstandard_frame)
_LZ4 = Packing("LZ4", 32 << 10, _lz4_frame)
