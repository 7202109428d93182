"""Which grammar a stream has, by its first four bytes."""

from transhume.execute.migration.splitting import Understanding
from transhume.execute.migration.stream.multifd import MULTIFD_MAGIC, MultifdGrammar
from transhume.execute.migration.stream.plain import PLAIN_MAGIC, PlainGrammar
from transhume.execute.migration.stream.reading import (
    Cursor,
    Grammar,
    NotUnderstoodError,
    Octets,
    Run,
    Step,
)

_TLS_HANDSHAKE = 0x1603
"""A TLS record's first bytes: a handshake, and the major version."""


class Beginning:
    """What is known before anything has come."""

    lost = ""

    def __init__(self, understanding: Understanding) -> None:
        self._understanding = understanding

    def run(self, octets: Octets, at: int, end: int) -> Run | None:
        """Return None: nothing is usual yet."""
        return None

    def read(self, cursor: Cursor) -> Step | Grammar:
        """Look at the first four bytes, and leave them to the grammar they belong to.

        Raises:
            ShortError: there are fewer.
            NotUnderstoodError: no grammar that we know begins like this.
        """
        magic = cursor.number32()
        cursor.at -= 4
        if magic == PLAIN_MAGIC:
            return PlainGrammar(self._understanding)
        if magic == MULTIFD_MAGIC:
            return MultifdGrammar(self._understanding)
        if magic >> 16 == _TLS_HANDSHAKE:
            raise NotUnderstoodError(
                "QEMU itself encrypts this stream (TLS): pages can't be told apart"
            )
        raise NotUnderstoodError("neither a migration stream nor a multifd channel begins so")
