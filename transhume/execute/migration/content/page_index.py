"""What the other end has, by digest: the sender's half of what both ends know.

Owns which reference stands for a page, and whose page it was first, so that what was saved can be told apart.
"""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from transhume.execute.migration.content.digests import DIGEST_BYTES, Digest
from transhume.execute.migration.content.page_log import Positions
from transhume.execute.migration.content.references import (
    MOST_REFERENCE,
    Space,
    indices_of,
    reference,
    spaces_of,
)


class PageIndex:
    """References by digest, with a log's own entries in the order of its positions.

    `first` and `next` are the log's: entries before `first` are forgotten.
    """

    def __init__(self) -> None:
        self.first = 0
        self._by_digest: dict[Digest, int] = {}
        self._logged = bytearray()
        """The digests from position `first` on."""
        self._owners = array("i")
        """Whose page each of them was first."""

    @property
    def next(self) -> int:
        """The position of the next page that is added."""
        return self.first + len(self._owners)

    def __len__(self) -> int:
        return len(self._by_digest)

    def find(self, digest: Digest) -> int | None:
        """Return the reference to a page; None where the other end doesn't have it."""
        return self._by_digest.get(digest)

    def knows(self, digests: Sequence[Digest]) -> NDArray[np.bool_]:
        """Say of each page whether the other end has it."""
        known = self._by_digest
        return np.fromiter((digest in known for digest in digests), np.bool_, len(digests))

    def look_up(self, digests: Sequence[Digest], owner: int) -> tuple[NDArray[np.bool_], Positions]:
        """Say which pages are new, and return references to the others; the new ones are known from then on.

        New pages get the log's next positions, in order, and are their owner's.
        """
        known = self._by_digest
        found = list(map(known.get, digests))
        is_new = np.zeros(len(digests), np.bool_)
        if None in found:
            new = [number for number, known_at in enumerate(found) if known_at is None]
            for number in new:
                next_one = reference(Space.LOG, self.next)
                found[number] = at = known.setdefault(digests[number], next_one)
                if at == next_one:
                    is_new[number] = True
                    self._logged += digests[number]
                    self._owners.append(owner)
        return is_new, np.array(found, np.int64)[~is_new]

    def count_owned(self, references: Positions, owner: int) -> tuple[int, int]:
        """Count the references to pages of the log that an owner was first to have, and that others were."""
        logged = indices_of(references[spaces_of(references) == Space.LOG])
        if not len(logged):
            return 0, 0
        owners = np.frombuffer(self._owners, np.int32)[logged - self.first]
        own = int(np.count_nonzero(owners == owner))
        return own, len(logged) - own

    def add_elsewhere(self, space: int, digests: Iterable[Digest], start: int = 0) -> None:
        """Note that pages are in another space, at indices from `start` on; what is known stays as it is."""
        known = self._by_digest
        for index, digest in enumerate(digests, start):
            known.setdefault(digest, reference(space, index))

    def drop_space(self, space: int, below: int | None = None) -> None:
        """Forget the references into a space, or those to indices below one."""
        limit = reference(space + 1, 0) if below is None else reference(space, below)
        self._drop_between(reference(space, 0), limit)

    def drop_listed(self) -> None:
        """Forget the references into whatever the peer has listed."""
        self._drop_between(reference(Space.RESIDENTS, 0), MOST_REFERENCE + 1)

    def _drop_between(self, start: int, end: int) -> None:
        gone = [digest for digest, found in self._by_digest.items() if start <= found < end]
        for digest in gone:
            del self._by_digest[digest]

    def forget_below(self, position: int) -> None:
        """Forget the log's entries before a position."""
        count = min(max(0, position - self.first), len(self._owners))
        self._drop(self.first, _digests(self._logged[: count * DIGEST_BYTES]))
        del self._logged[: count * DIGEST_BYTES]
        del self._owners[:count]
        self.first += count

    def truncate(self, position: int) -> None:
        """Forget the log's entries from a position on."""
        keep = max(0, position - self.first)
        self._drop(self.first + keep, _digests(self._logged[keep * DIGEST_BYTES :]))
        del self._logged[keep * DIGEST_BYTES :]
        del self._owners[keep:]

    def _drop(self, start: int, digests: Sequence[Digest]) -> None:
        for position, digest in enumerate(digests, start):
            if self._by_digest.get(digest) == reference(Space.LOG, position):
                del self._by_digest[digest]


def _digests(joined: bytes | bytearray) -> list[Digest]:
    return [bytes(joined[at : at + DIGEST_BYTES]) for at in range(0, len(joined), DIGEST_BYTES)]
