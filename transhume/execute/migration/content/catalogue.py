"""A disk image at a site, known block by block: what is in it needn't be sent there.

Owns the indexing and the reading of blocks. A block is hashed again when it is used: an image that was changed
since it was indexed is found out, and never taken for what it was.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from transhume.execute.migration.content.digests import ZERO_PAGE, Digest, digest_of
from transhume.execute.migration.content.page_log import Positions
from transhume.execute.migration.splitting import PAGE_BYTES

_READ_BYTES = 4 << 20


class ImageChanged(Exception):
    """A block of an image isn't what it was when it was indexed, or can't be read any more."""

    def __init__(self, path: Path, why: str = "it was changed") -> None:
        self.path = path
        super().__init__(f"{path} isn't what was indexed: {why}")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The distinct blocks of an image, in the order in which they stand there, without empty ones."""

    path: Path
    digests: tuple[Digest, ...]
    offsets: Positions
    """In the file, of each."""
    name: bytes
    """The same wherever the same blocks are in the same order: a digest of all digests."""

    def read(self, indices: Positions) -> list[memoryview]:
        """Return blocks of the image.

        Raises:
            ImageChanged: one isn't what it was, or the image can't be read.
        """
        try:
            with self.path.open("rb", buffering=0) as image:
                return [self._block(image.fileno(), index) for index in indices.tolist()]
        except OSError as error:
            raise ImageChanged(self.path, str(error)) from error

    def _block(self, image: int, index: int) -> memoryview:
        block = os.pread(image, PAGE_BYTES, int(self.offsets[index]))
        if digest_of(block) != self.digests[index]:
            raise ImageChanged(self.path)
        return memoryview(block)


def index_image(path: Path) -> Catalogue:
    """Read an image, whatever its format, and return its blocks.

    Raises:
        OSError: it can't be read.
    """
    places: dict[Digest, int] = {}
    for offset, block in _blocks(path):
        places.setdefault(digest_of(block), offset)
    places.pop(ZERO_PAGE, None)
    digests = tuple(places)
    return Catalogue(
        path=path,
        digests=digests,
        offsets=np.fromiter(places.values(), np.int64, len(places)),
        name=name_of(digests),
    )


def name_of(digests: Sequence[Digest]) -> bytes:
    """Return the name of the catalogue that lists these."""
    return sha256(b"".join(digests)).digest()


def _blocks(path: Path) -> Iterator[tuple[int, memoryview]]:
    """Yield the whole blocks of a file and where they begin; holes are passed over."""
    with path.open("rb", buffering=0) as image:
        end = os.fstat(image.fileno()).st_size
        at = 0
        while at < end:
            try:
                at = os.lseek(image.fileno(), at, os.SEEK_DATA) // PAGE_BYTES * PAGE_BYTES
            except OSError:  # nothing but a hole follows
                return
            hole = os.lseek(image.fileno(), at, os.SEEK_HOLE)
            while at < hole:
                chunk = memoryview(os.pread(image.fileno(), _READ_BYTES, at))
                for inside in range(0, len(chunk) - PAGE_BYTES + 1, PAGE_BYTES):
                    yield at + inside, chunk[inside : inside + PAGE_BYTES]
                if len(chunk) < _READ_BYTES:
                    at = max(at + len(chunk), hole)
                    break
                at += len(chunk)
