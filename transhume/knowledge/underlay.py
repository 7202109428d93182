"""What sites say of their ends of the encrypted underlay, where all sites read it.

Owns the hash and the channel. Checks nothing: whoever may write to the knowledge may write anything here, so
that readers believe a record only once they have checked its signature.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from redis.asyncio import Redis

from transhume.knowledge import keys
from transhume.knowledge.codec import encode
from transhume.knowledge.model import SignedEndpoint
from transhume.knowledge.reading import Reader
from transhume.knowledge.wire import news_of, reaching, run_script

_PUT = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PUBLISH', KEYS[2], ARGV[2])
"""


class UnderlayDirectory:
    """The sites' records in one Redis. Safe to share between tasks."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._reader = Reader()

    async def put(self, record: SignedEndpoint) -> None:
        """Replace a site's record, and tell whoever watches.

        Raises:
            KnowledgeUnreachable: no Redis answers.
        """
        names = (keys.UNDERLAY, keys.UNDERLAY_NEWS)
        await run_script(self._client, _PUT, names, (record.site, encode(record)))

    async def all(self) -> tuple[SignedEndpoint, ...]:
        """Return all records that can be read, by site.

        Raises:
            KnowledgeUnreachable: no Redis answers.
        """
        async with reaching():
            found: Any = await self._client.hgetall(keys.UNDERLAY)
        return self._reader.records(SignedEndpoint, found, keys.UNDERLAY)

    async def forget(self, site: str) -> None:
        """Remove a site's record, for a site that is gone for good.

        Raises:
            KnowledgeUnreachable: no Redis answers.
        """
        async with reaching():
            await self._client.hdel(keys.UNDERLAY, site)

    async def watch(
        self, resync_seconds: float
    ) -> AsyncGenerator[tuple[SignedEndpoint, ...], None]:
        """Yield all records, then each new one as it is written; all of them again every `resync_seconds`.

        Raises:
            KnowledgeUnreachable: no Redis answers; begin again later, nothing is missed by that.
        """
        async with aclosing(news_of(self._client, keys.UNDERLAY_NEWS, resync_seconds)) as news:
            async for said in news:
                if said is None:
                    yield await self.all()
                    continue
                record = self._reader.record(SignedEndpoint, said, keys.UNDERLAY_NEWS)
                yield (record,) if record is not None else ()
