"""What one tenant's VMs at this site have in memory, as far as it was looked at: pages that needn't be sent.

Pages are copies, in a log of their own: the guests that they are of go on writing. Nothing is ever taken away
from it, so that an index in it means the same as long as it exists.
"""

from collections.abc import Sequence, Set

from transhume.execute.migration.content.digests import ZERO_PAGE, Digest, digest_of
from transhume.execute.migration.content.page_log import PageLog, Positions
from transhume.execute.migration.splitting import PAGE_BYTES


class ResidentPages:
    """Pages, each once, in the order in which they were found.

    Args:
        log: where they are kept; empty.
        most_bytes: what they may take.
        known: digests of pages that peers know to be here anyhow.
    """

    def __init__(self, log: PageLog, most_bytes: int, known: Set[Digest] = frozenset()) -> None:
        self._log = log
        self._most_pages = most_bytes // PAGE_BYTES
        self._seen = {ZERO_PAGE, *known}
        self.digests: list[Digest] = []
        """Of all pages, by their index."""

    @property
    def kept_bytes(self) -> int:
        """What the pages take."""
        return self._log.kept_bytes

    @property
    def full(self) -> bool:
        """Whether there is no room for another one."""
        return len(self.digests) >= self._room_pages

    @property
    def _room_pages(self) -> int:
        return min(self._most_pages, self._log.room_bytes // PAGE_BYTES)

    def add(self, pages: Sequence[bytes | memoryview]) -> int:
        """Keep those that are new, as far as there is room; return how many were.

        Raises:
            OSError: the log can't keep them.
        """
        added: dict[Digest, bytes | memoryview] = {}
        room = self._room_pages - len(self.digests)
        for page in pages:
            if len(added) >= room:
                break
            digest = digest_of(page)
            if digest not in self._seen:
                added[digest] = page
        try:
            self._log.append(b"".join(added.values()))
        except OSError:
            self._log.truncate(len(self.digests))
            raise
        # Listed once they can be read, and never before.
        self._seen.update(added)
        self.digests += added
        return len(added)

    def read(self, indices: Positions) -> list[memoryview]:
        """Return pages by their indices.

        Raises:
            NotInLog: there is none of an index.
            OSError: the disk doesn't give a part.
        """
        return self._log.read(indices)

    def close(self) -> None:
        """Forget everything."""
        self._log.close()
