"""Reading a stream as it grows, without polling and without missing an entry.

Owns the waiting. Each read blocks on the server for a moment and goes on where the last one ended, so that a
reader may stop between two entries and be cancelled while it waits.
"""

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from redis.asyncio import Redis

from transhume.knowledge.wire import BLOCK_SECONDS, reaching, text

BEGINNING = "0-0"
_ID = re.compile(r"\d+-\d+")


async def follow(
    client: Redis, stream: str, after: str
) -> AsyncIterator[tuple[str, Mapping[bytes, bytes]]]:
    """Yield the entries after an id, then each new one as it comes."""
    while True:
        async with reaching():
            answer: Any = await client.xread(
                {stream: after}, count=100, block=int(BLOCK_SECONDS * 1000)
            )
        for _, entries in answer or ():
            for entry, fields in entries:
                after = text(entry)
                yield after, fields


async def last_id(client: Redis, stream: str) -> str:
    """Return the id of the newest entry; following from there yields what comes next."""
    async with reaching():
        newest: Any = await client.xrevrange(stream, count=1)
    return text(newest[0][0]) if newest else BEGINNING


def valid_id(value: bytes | str | None) -> str:
    """Return an id that was kept, or the beginning where it is none."""
    kept = text(value or b"")
    return kept if _ID.fullmatch(kept) else BEGINNING
