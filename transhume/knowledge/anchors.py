"""The anchors of one virtual network, where all its sites read them: who sends which connection where.

Owns a hash, with one record for each site and address, and a channel with the same records as they are written.
Each site writes what it has itself, and nothing of others: so nobody has to agree with anybody. Checks nothing;
who reads decides what to believe.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from transhume.knowledge import keys
from transhume.knowledge.codec import encode
from transhume.knowledge.model import Anchors
from transhume.knowledge.reading import Reader
from transhume.knowledge.wire import news_of, reaching, run_script

_PUT = """
for i = 1, #ARGV, 3 do
    local name, open, record = unpack(ARGV, i, i + 2)
    if open == '1' then
        redis.call('HSET', KEYS[1], name, record)
    else
        redis.call('HDEL', KEYS[1], name)
    end
    redis.call('PUBLISH', KEYS[2], record)
end
"""
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class AnchorNews:
    """Records that were heard or read."""

    records: tuple[Anchors, ...]
    whole: bool
    """Whether there are no others."""


class AnchorDirectory:
    """The anchors of one network in one Redis. Safe to share between tasks."""

    def __init__(self, client: Redis, vni: int) -> None:
        self._client = client
        self._keys = keys.anchors(vni)
        self._reader = Reader()

    async def put(self, records: tuple[Anchors, ...]) -> None:
        """Replace records of a site, and tell whoever watches; one without flows is removed.

        Raises:
            KnowledgeUnreachable: no Redis answers.
        """
        for start in range(0, len(records), _AT_ONCE):
            arguments = [
                part
                for each in records[start : start + _AT_ONCE]
                for part in (f"{each.site} {each.ip}", int(bool(each.flows)), encode(each))
            ]
            await run_script(self._client, _PUT, self._keys, arguments)

    async def all(self) -> tuple[Anchors, ...]:
        """Return all records that can be read.

        Raises:
            KnowledgeUnreachable: no Redis answers.
        """
        async with reaching():
            found: Any = await self._client.hgetall(self._keys[0])
        return self._reader.records(Anchors, found, self._keys[0])

    async def watch(self, resync_seconds: float) -> AsyncGenerator[AnchorNews, None]:
        """Yield all records, then each as it is written; all of them again every `resync_seconds`.

        Raises:
            KnowledgeUnreachable: no Redis answers; begin again later.
        """
        table, channel = self._keys
        async with aclosing(news_of(self._client, channel, resync_seconds)) as news:
            async for said in news:
                if said is None:
                    yield AnchorNews(await self.all(), whole=True)
                elif (record := self._reader.record(Anchors, said, table)) is not None:
                    yield AnchorNews((record,), whole=False)
