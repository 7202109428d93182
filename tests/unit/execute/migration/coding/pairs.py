"""Both halves of a domain, and streams of pages to send through them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transhume.execute.migration.coding.prepared import Prepared, Stream, prepare
from transhume.execute.migration.coding.receiver import Arriving, Receiver
from transhume.execute.migration.coding.sender import Sender
from transhume.execute.migration.content.page_log import SEGMENT_BYTES, PageLog
from transhume.execute.migration.splitting import PAGE_BYTES, Split
from transhume.knowledge.model import Transfer


@dataclass(slots=True)
class Pair:
    """A sender, and a receiver that has had all that it has sent."""

    sender: Sender
    receiver: Receiver

    def send(
        self, stream: Stream, arriving: Arriving, split: Split, *, level: int | None = 1
    ) -> tuple[bytes, Transfer]:
        """Return what arrives of a piece, and what became of it."""
        pieces, transfer = self.sender.encode(prepare(stream, split), level=level)
        return self.receiver.decode(arriving, b"".join(pieces)), transfer


def pair(folder: Path, *, limit_bytes: int = 1 << 30) -> Pair:
    """Make a domain's two halves, which know nothing yet."""
    log = PageLog(folder, memory_bytes=2 * SEGMENT_BYTES)
    return Pair(
        Sender(log, limit_bytes),
        Receiver(PageLog(folder, memory_bytes=2 * SEGMENT_BYTES, name=log.name)),
    )


def parts_of(both: Pair, prepared: Prepared, most_unknown_bytes: int) -> Iterator[Prepared]:
    """Cut a piece into parts, each by what is known when it's asked for."""
    rest: Prepared | None = prepared
    while rest is not None:
        part, rest = both.sender.first_part(rest, most_unknown_bytes)
        yield part


def split_of(pages: list[bytes], gap: bytes = b"\x00" * 7 + b"\x28") -> Split:
    """Put pages into a stream, with something before each."""
    stride = len(gap) + PAGE_BYTES
    offsets = np.arange(len(pages), dtype=np.int64) * stride + len(gap)
    return Split(b"".join(gap + page for page in pages), offsets)


def page(seed: int) -> bytes:
    """Make a page that can't be compressed, the same for the same seed."""
    return random.Random(seed).randbytes(PAGE_BYTES)
