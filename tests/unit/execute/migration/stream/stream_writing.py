"""Writes streams as QEMU does, and keeps where the pages are in them."""

import struct
from collections.abc import Sequence
from random import Random

PAGE = 4096
BLOCKS = {b"pc.ram": 64 << 20, b"pc.bios": 256 << 10}
EOS, MULTIFD_FLUSH = 0x10, 0x200


class Written:
    """A stream under way."""

    def __init__(self) -> None:
        self.raw = bytearray()
        self.pages: list[int] = []
        self.zero_pages = 0

    def add(self, raw: bytes) -> None:
        self.raw += raw

    def add_pages(self, raw: bytes) -> None:
        """Add a whole number of pages."""
        self.pages += range(len(self.raw), len(self.raw) + len(raw), PAGE)
        self.raw += raw

    @property
    def stream(self) -> bytes:
        return bytes(self.raw)


class Plain(Written):
    """A plain stream."""

    def __init__(self, page_bytes: int = PAGE) -> None:
        super().__init__()
        self.page_bytes = page_bytes
        self._block = b""

    def head(self, subsections: bytes = b"", machine: bytes = b"pc-q35-7.2") -> None:
        self.add(struct.pack(">4sIBI", b"QEVM", 3, 7, len(machine)) + machine + subsections)

    def section(self, kind: int, number: int, name: bytes = b"", version: int = 0) -> None:
        """Begin a section; one with a name is the first of its number."""
        self.add(struct.pack(">BI", kind, number))
        if name:
            self.add(struct.pack(">B", len(name)) + name + struct.pack(">II", 0, version))

    def footer(self, number: int) -> None:
        self.add(struct.pack(">BI", 0x7E, number))

    def command(self, command: int, data: bytes = b"") -> None:
        self.add(struct.pack(">BHH", 8, command, len(data)) + data)

    def packaged(self, content: bytes) -> None:
        self.command(7, struct.pack(">I", len(content)))
        self.add(content)

    def word(self, number: int) -> None:
        self.add(struct.pack(">Q", number))

    def blocks(
        self, blocks: dict[bytes, int] = BLOCKS, extras: dict[bytes, Sequence[int]] | None = None
    ) -> None:
        """Write the list of blocks, with further numbers behind some of them."""
        self.word(sum(blocks.values()) | 4)
        for name, length in blocks.items():
            self.add(struct.pack(">B", len(name)) + name + struct.pack(">Q", length))
            for number in (extras or {}).get(name, ()):
                self.word(number)

    def begin_memory(self, number: int = 1) -> None:
        """Write memory's first section."""
        self.section(1, number, b"ram", 4)
        self.blocks()
        self.end_memory(number)

    def end_memory(self, number: int = 1) -> None:
        self.word(EOS)
        self.footer(number)

    def record(self, flags: int, index: int, block: bytes = b"pc.ram") -> None:
        """Write what a record begins with."""
        again = block == self._block
        self.word(index * self.page_bytes | flags | (0x20 if again else 0))
        if not again:
            self.add(struct.pack(">B", len(block)) + block)
        self._block = block

    def page(self, index: int, content: bytes, block: bytes = b"pc.ram") -> None:
        self.record(0x08, index, block)
        self.add_pages(content)

    def zero(self, index: int, block: bytes = b"pc.ram") -> None:
        self.record(0x02, index, block)
        self.add(b"\0")
        self.zero_pages += self.page_bytes // PAGE

    def delta(self, index: int, content: bytes, block: bytes = b"pc.ram") -> None:
        self.record(0x40, index, block)
        self.add(struct.pack(">BH", 1, len(content)) + content)

    def compressed(self, index: int, content: bytes, block: bytes = b"pc.ram") -> None:
        self.record(0x100, index, block)
        self.add(struct.pack(">I", len(content)) + content)

    def device(self, number: int = 9) -> None:
        self.section(4, number, b"timer", 2)
        self.add(b"any device's state")
        self.footer(number)
        self.add(b"\0")


class Multifd(Written):
    """A channel of multifd's."""

    def head(self) -> None:
        self.add(struct.pack(">II", 0x11223344, 1).ljust(64, b"\0"))

    def packet(
        self, contents: bytes, *, zero_pages: int = 0, flags: int = 0, size: int | None = None
    ) -> None:
        """Write a packet of whole pages; `size` is the next packet's, where it isn't theirs."""
        pages = len(contents) // PAGE
        size = len(contents) if size is None else size
        allocated = 128 if pages else 0
        head = struct.pack(">6IQI", 0x11223344, 1, flags, allocated, pages, size, 7, zero_pages)
        self.add(head.ljust(64, b"\0") + b"pc.ram".ljust(256, b"\0") + bytes(8 * 128))
        self.add_pages(contents)
        self.zero_pages += zero_pages

    def device_state(self, content: bytes) -> None:
        head = struct.pack(">3I256sII", 0x11223344, 1, 0x40, b"vfio", 0, len(content))
        self.add(head + content)


def any_page(random: Random, page_bytes: int = PAGE) -> bytes:
    """Return a page, sometimes one that looks like the stream around it."""
    decoys = (
        b"QEVM\0\0\0\3",
        b"\0\0\0\0\0\0\x10\x28",
        b"\x7e\0\0\0\1\2\0\0\0\1",
        b"\x11\x22\x33\x44",
    )
    if random.random() < 0.3:
        return (random.choice(decoys) * page_bytes)[:page_bytes]
    return random.randbytes(8) * (page_bytes // 8)


def any_plain(random: Random) -> Plain:
    """Draw a whole plain stream of any kind."""
    bits = random.choice((12, 12, 12, 14, 16))
    stream = Plain(1 << bits)
    subsection = b"configuration/target-page-bits"
    stream.head(
        struct.pack(">BB", 5, len(subsection)) + subsection + struct.pack(">II", 1, bits)
        if bits != 12
        else b""
    )
    for _ in range(random.randrange(3)):
        stream.command(random.choice((1, 2, 3)), random.choice((b"", b"\0\0\0\1")))
    stream.begin_memory()
    others = random.randrange(2)
    if others:
        stream.section(1, 2, b"dirty-bitmap", 1)
        stream.add(random.randbytes(random.randrange(300)))
        stream.footer(2)
    for _ in range(random.randrange(1, 6)):
        if others and random.random() < 0.3:
            stream.section(2, 2)
            stream.add(random.randbytes(random.randrange(300)))
            stream.footer(2)
        if random.random() < 0.2:
            stream.packaged(random.randbytes(random.randrange(9000)))
        stream.section(2, 1)
        _any_records(random, stream)
        stream.end_memory()
    stream.section(3, 1)
    _any_records(random, stream)
    stream.end_memory()
    stream.device()
    return stream


def _any_records(random: Random, stream: Plain) -> None:
    for _ in range(random.randrange(6)):
        block = random.choice((b"pc.ram", b"pc.ram", b"pc.bios"))
        index = random.randrange(BLOCKS[block] // stream.page_bytes)
        kind = random.randrange(6)
        if kind < 2:
            stream.page(index, any_page(random, stream.page_bytes), block)
        elif kind == 2:
            stream.delta(index, random.randbytes(random.randrange(2000)), block)
        elif kind == 3:
            stream.compressed(index, random.randbytes(random.randrange(2000)), block)
        elif kind == 4:
            for ahead in range(random.choice((1, 3, 70))):
                stream.zero((index + ahead) % (BLOCKS[block] // stream.page_bytes), block)
        else:
            stream.word(MULTIFD_FLUSH)


def any_multifd(random: Random) -> Multifd:
    """Draw a whole channel of multifd's, of any version."""
    stream = Multifd()
    stream.head()
    for _ in range(random.randrange(1, 6)):
        kind = random.randrange(4)
        if kind == 0:
            stream.packet(b"", flags=1, size=random.choice((0, 128 * PAGE)))
        elif kind == 1:
            stream.device_state(random.randbytes(random.randrange(9000)))
        else:
            pages = random.randrange(1, 5)
            contents = b"".join(any_page(random) for _ in range(pages))
            stream.packet(contents, zero_pages=random.randrange(100))
    return stream
