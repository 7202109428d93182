"""Finds blocks of a disk in what an NBD client sends: one connection, client to server.

Blocks are told by where they go on the disk, not by where they stand in the stream: of a write, the stretches
that begin at a multiple of the page size there and are a page long. The server's replies need no splitter: the
gateway passes them on as they are, so that no write or flush is acknowledged before the destination has.
"""

from enum import Enum, auto

import numpy as np

from transhume.execute.migration.nbd import messages
from transhume.execute.migration.nbd.messages import Option, OptionType, Request, RequestType
from transhume.execute.migration.splitting import (
    PAGE_BYTES,
    Offsets,
    Split,
    Understanding,
    no_offsets,
)

_OPTIONS, _REQUESTS = frozenset(OptionType), frozenset(RequestType)


class _Expected(Enum):
    """What comes next in the stream."""

    FLAGS = auto()
    OPTION = auto()
    REQUEST_OR_OPTION = auto()
    """After GO: the server may have refused it."""
    REQUEST = auto()
    NOTHING = auto()
    """After a goodbye."""
    OPAQUE = auto()


class NbdSplitter:
    """Implements `Splitter` for one NBD connection's requests."""

    def __init__(self) -> None:
        self._understanding = Understanding()
        self._expected = _Expected.FLAGS
        self._given_bytes = 0
        self._held = b""
        self._early = b""
        """The beginning of a header that has been given out before it was whole."""
        self._literal_bytes = 0
        """How much of an option's data, or of a payload that isn't the disk's, is still to come."""
        self._payload_bytes = 0
        """How much of a write's payload is still to come..."""
        self._at = 0
        """...and where on the disk it goes."""
        self._runs: list[tuple[int, int]] = []
        """Pages that follow each other in what is split now: where they begin, and how many they are."""

    @property
    def understanding(self) -> Understanding:
        """What was made out so far."""
        return self._understanding

    @property
    def held_bytes(self) -> int:
        """How many bytes of an incomplete header or page are held back."""
        return len(self._held)

    def split(self, data: bytes | memoryview) -> Split:
        """Take the next bytes, and give out all but an incomplete header or page at the end."""
        whole = memoryview(b"".join((self._held, data)) if self._held else data)
        at, end = 0, len(whole)
        while at < end:
            after = self._step(whole, at)
            if after == at:
                break
            at = after
        self._held = bytes(whole[at:])
        self._given_bytes += at
        return Split(whole[:at], self._found())

    def flush(self) -> Split:
        """Give out what is held back, as bytes without pages; what follows is understood as before."""
        held, self._held = self._held, b""
        self._given_bytes += len(held)
        if self._payload_bytes:
            self._advance(len(held))
        else:
            self._early += held
        return Split(held)

    def _step(self, whole: memoryview, at: int) -> int:
        """Understand one more thing; return where it ends, or `at` where it isn't complete."""
        if self._expected is _Expected.OPAQUE:
            return len(whole)
        if self._literal_bytes:
            taken = min(self._literal_bytes, len(whole) - at)
            self._literal_bytes -= taken
            return at + taken
        if self._payload_bytes:
            return self._take_payload(at, len(whole) - at)
        return self._take_header(whole, at)

    def _take_payload(self, at: int, available: int) -> int:
        """Note the pages among the next bytes of a write, and pass them."""
        head = min(-self._at % PAGE_BYTES, available, self._payload_bytes)
        rest = min(available, self._payload_bytes) - head
        whole = rest // PAGE_BYTES * PAGE_BYTES
        if whole:
            self._runs.append((at + head, whole // PAGE_BYTES))
        # What follows the last whole page is held back only where it can still become one.
        ends = self._payload_bytes - head - whole < PAGE_BYTES
        taken = head + (rest if ends else whole)
        self._advance(taken)
        return at + taken

    def _advance(self, taken: int) -> None:
        self._at += taken
        self._payload_bytes -= taken

    def _take_header(self, whole: memoryview, at: int) -> int:
        """Read the next header, if it is there."""
        begins = self._given_bytes + at - len(self._early)
        # Whatever a header is, its first four bytes tell how long it is.
        magic = self._peek(whole, at, messages.MAGIC_BYTES)
        if magic is None:
            return at
        size = self._header_bytes(magic)
        if size is None:
            return self._give_up(begins, self._why_unknown(), whole)
        header = self._peek(whole, at, size)
        if header is None:
            return at
        why_opaque = self._understand(header)
        if why_opaque is not None:
            return self._give_up(begins, why_opaque, whole)
        at += size - len(self._early)
        self._early = b""
        return at

    def _peek(self, whole: memoryview, at: int, size: int) -> bytes | None:
        missing = size - len(self._early)
        if len(whole) - at < missing:
            return None
        return self._early + bytes(whole[at : at + missing]) if missing > 0 else self._early[:size]

    def _header_bytes(self, magic: bytes) -> int | None:
        """Return how long the header is that begins so; None where no such header may come now."""
        expected = self._expected
        if expected is _Expected.FLAGS:
            return messages.CLIENT_FLAGS_BYTES
        may_be_option = expected in (_Expected.OPTION, _Expected.REQUEST_OR_OPTION)
        if may_be_option and messages.OPTION_MAGIC.startswith(magic):
            return messages.OPTION_BYTES
        if expected in (_Expected.REQUEST, _Expected.REQUEST_OR_OPTION):
            return messages.REQUEST_BYTES.get(magic)
        return None

    def _why_unknown(self) -> str:
        match self._expected:
            case _Expected.OPTION:
                return "no option where one was expected"
            case _Expected.NOTHING:
                return "bytes after a goodbye"
            case _:
                return "no request where one was expected"

    def _understand(self, header: bytes) -> str | None:
        """Take note of a header; return why nothing can be understood from it on, if so."""
        if self._expected is _Expected.FLAGS:
            self._expected = _Expected.OPTION
            return None if messages.is_fixed_newstyle(header) else "not a fixed newstyle client"
        if messages.OPTION_MAGIC.startswith(header[: messages.MAGIC_BYTES]):
            option = messages.read_option(header)
            return "no option where one was expected" if option is None else self._heed(option)
        return self._obey(messages.read_request(header))

    def _heed(self, option: Option) -> str | None:
        match option.type:
            case OptionType.STARTTLS:
                return "encrypted by NBD's own TLS"
            case OptionType.GO:
                self._expected = _Expected.REQUEST_OR_OPTION
            case OptionType.EXPORT_NAME:
                self._expected = _Expected.REQUEST
            case OptionType.ABORT:
                self._expected = _Expected.NOTHING
            case known if known in _OPTIONS:
                self._expected = _Expected.OPTION
            case unknown:
                return f"unknown option {unknown}"
        self._literal_bytes = option.data_bytes
        return None

    def _obey(self, request: Request) -> str | None:
        self._expected = _Expected.REQUEST
        match request.type:
            case RequestType.WRITE:
                self._payload_bytes, self._at = request.payload_bytes, request.offset
                return None
            case RequestType.WRITE_ZEROES:
                self._understanding.zero_pages += _whole_pages(request.offset, request.length)
            case RequestType.DISCONNECT:
                self._expected = _Expected.NOTHING
            case known if known in _REQUESTS:
                pass
            case unknown:
                return f"unknown request {unknown}"
        self._literal_bytes = request.payload_bytes
        return None

    def _give_up(self, begins: int, why: str, whole: memoryview) -> int:
        self._expected = _Expected.OPAQUE
        self._early = b""
        self._understanding.opaque_from = begins
        self._understanding.why_opaque = why
        return len(whole)

    def _found(self) -> Offsets:
        """Return the pages that were noted since the last time."""
        runs, self._runs = self._runs, []
        found = _each_page(runs) if runs else no_offsets()
        self._understanding.pages += len(found)
        return found


def _each_page(runs: list[tuple[int, int]]) -> Offsets:
    if len(runs) == 1:
        ((first, count),) = runs
        return np.arange(first, first + count * PAGE_BYTES, PAGE_BYTES, dtype=np.int64)
    firsts, counts = np.array(runs, np.int64).T
    ahead = np.cumsum(counts) - counts
    total = int(counts.sum())
    return np.repeat(firsts - ahead * PAGE_BYTES, counts) + np.arange(total) * PAGE_BYTES


def _whole_pages(offset: int, length: int) -> int:
    first, end = -(-offset // PAGE_BYTES), (offset + length) // PAGE_BYTES
    return max(0, end - first)
