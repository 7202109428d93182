"""Waiting until a write is on disk, as far as the server lets us.

A server of ours answers a write only once it is on disk. Of another's we ask with WAITAOF (Redis 7.2 and later,
Valkey). One that keeps no append-only file, or is too old to say, loses what it loses: that is told once.
"""

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from transhume.errors import KnowledgeUnreachable

log = structlog.get_logger(__name__)

DISK_MILLISECONDS = 5000


class Durability:
    """What is known of one server's promises; learns them on first use."""

    def __init__(self) -> None:
        self._must_ask: bool | None = None

    async def on_disk(self, connection: Redis) -> None:
        """Return once what was written over this very connection is on disk.

        Raises:
            KnowledgeUnreachable: it isn't after five seconds; whether it was written is not known.
        """
        if self._must_ask is None:
            self._must_ask = not await _always_syncs(connection)
        if not self._must_ask:
            return
        try:
            local, _ = await connection.waitaof(1, 0, DISK_MILLISECONDS)
        except ResponseError as error:
            self._must_ask = False
            log.warning("journal_durability_unknown", seen=str(error))
            return
        if not local:
            raise KnowledgeUnreachable(
                "the server holds a journal record but can't bring it to disk; is its disk full?"
            )


async def _always_syncs(connection: Redis) -> bool:
    try:
        settings = await connection.config_get("append*")
    except ResponseError:  # a managed server that hides its settings
        return False
    return settings.get("appendonly") == "yes" and settings.get("appendfsync") == "always"
