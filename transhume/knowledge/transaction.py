"""Several writes as one: all of them or none, and only by whoever has the pen where a pen is needed.

A `Transaction` collects operations and commits them as a Lua script (`transaction.lua`), within which the
fencing token is compared, so that there is no instant between the check and the write. A transaction that
only repeats what is known already writes, but neither raises the version nor wakes anybody.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Self

import structlog
from redis.asyncio import Redis

from transhume.errors import LeaseLost
from transhume.knowledge import keys
from transhume.knowledge.records import ChangeKind
from transhume.knowledge.wire import run_script, text

log = structlog.get_logger(__name__)


class Unexpected(Exception):
    """The answer of a compare-and-set that found another value; nothing was written."""

    def __init__(self, found: str) -> None:
        self.found = found
        super().__init__(found)


class Transaction:
    """What is to be written together. Methods return the transaction, so that they can be strung together."""

    def __init__(self, *, at: datetime) -> None:
        self._stamp = milliseconds(at)
        self._operations: list[str | bytes | int] = []

    def expect(self, key: str, field: str, value: str) -> Self:
        """Commit only if the hash has this value there ("" for none)."""
        return self._add("expect", key, field, value)

    def merge(self, key: str, fields: Mapping[str, bytes]) -> Self:
        """Set fields of a hash."""
        return self._add("merge", key, *(part for pair in fields.items() for part in pair))

    def replace(self, key: str, fields: Mapping[str, bytes]) -> Self:
        """Make a hash hold these fields and no others."""
        return self._add("replace", key, *(part for pair in fields.items() for part in pair))

    def remove(self, key: str, field: str) -> Self:
        """Take a field out of a hash."""
        return self._add("remove", key, field)

    def forget(self, key: str, field: str, value: bytes) -> Self:
        """Take a field out of a hash if it still has this value; that is no news."""
        return self._add("forget", key, field, value)

    def put(self, key: str, value: bytes) -> Self:
        """Set a string."""
        return self._add("put", key, value)

    def push(self, key: str, value: bytes) -> Self:
        """Append to a list."""
        return self._add("push", key, value)

    def rank(self, key: str, score: datetime, member: str) -> Self:
        """Add a member to a set that is sorted by time."""
        return self._add("rank", key, milliseconds(score), member)

    def unrank(self, key: str, member: str) -> Self:
        """Take a member out of such a set."""
        return self._add("unrank", key, member)

    def drop(self, key: str) -> Self:
        """Remove a key, whatever it holds."""
        return self._add("drop", key)

    def happen(self, key: str, record: bytes, *, at: datetime, keep: timedelta) -> Self:
        """Append to a stream, and let go of what is older than `keep` before it."""
        return self._add("happen", key, milliseconds(at), _whole_milliseconds(keep), record)

    def arrive(self, key: str, record: bytes, *, keep: timedelta) -> Self:
        """Append to a stream by the server's own clock, and let go of what came longer than `keep` ago."""
        return self._add("arrive", key, _whole_milliseconds(keep), record)

    def tell(
        self, kind: ChangeKind, subject: str, *, keep: timedelta, changes_plans: bool = True
    ) -> Self:
        """Announce the operations so far if they were news; raise the version if a plan could change."""
        return self._add(
            "tell",
            keys.CHANGES,
            kind.value,
            subject,
            self._stamp,
            _whole_milliseconds(keep),
            int(changes_plans),
        )

    async def commit(self, client: Redis, *, token: int | None = None) -> None:
        """Write it all at once.

        Raises:
            LeaseLost: a token was given, and another has taken the pen since. Nothing was written.
            Unexpected: an `expect` wasn't met. Nothing was written.
        """
        fence = "" if token is None else str(token)
        names = (keys.FENCE, keys.VERSION, keys.CHANGES)
        answer, *rest = await run_script(client, _script(), names, [fence, *self._operations])
        match answer:
            case b"lost":
                raise LeaseLost(token or 0)
            case b"unexpected":
                raise Unexpected(text(rest[0]))
        for key in rest:
            log.warning("foreign_key_dropped", key=text(key))

    def _add(self, name: str, *arguments: str | bytes | int) -> Self:
        self._operations += (name, len(arguments), *arguments)
        return self


def milliseconds(instant: datetime) -> int:
    """Return an instant as streams count time."""
    return int(instant.timestamp() * 1000)


def _whole_milliseconds(stretch: timedelta) -> int:
    return stretch // timedelta(milliseconds=1)


@cache
def _script() -> str:
    return files("transhume.knowledge").joinpath("transaction.lua").read_text()
