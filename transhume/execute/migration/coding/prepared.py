"""Pieces of a stream, ready to be encoded: their pages hashed, and the stream's check until their end."""

from dataclasses import dataclass, field, replace

import numpy as np
from blake3 import blake3

from transhume.execute.migration.content.digests import Digest, digests_of
from transhume.execute.migration.splitting import Split


@dataclass(slots=True)
class Stream:
    """One stream that is being sent."""

    owner: int
    """A number for its VM, within the domain."""
    check: blake3 = field(default_factory=blake3)
    """Of all of it that was prepared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A piece of a stream that is ready to be encoded."""

    split: Split
    digests: list[Digest]
    before: blake3
    """The stream's check until its beginning, not to be gone on with."""
    check: bytes
    """The same until its end."""
    owner: int

    def cut(self, at: int) -> tuple["Prepared", "Prepared"]:
        """Cut it in two after so many bytes, which must not be within a page."""
        raw, pages = memoryview(self.split.raw), self.split.pages
        count = int(np.searchsorted(pages, at))
        between = self.before.copy()
        between.update(raw[:at])
        first = replace(
            self,
            split=Split(raw[:at], pages[:count]),
            digests=self.digests[:count],
            check=between.digest(),
        )
        rest = replace(
            self,
            split=Split(raw[at:], pages[count:] - at),
            digests=self.digests[count:],
            before=between,
        )
        return first, rest


def prepare(stream: Stream, split: Split) -> Prepared:
    """Do what needs no knowledge of the domain: hash pages, and go on with the stream's check."""
    before = stream.check.copy()
    stream.check.update(split.raw)
    return Prepared(
        split=split,
        digests=digests_of(split.raw, split.pages),
        before=before,
        check=stream.check.digest(),
        owner=stream.owner,
    )
