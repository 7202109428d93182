"""Calls somebody over TLS, and sees that it's them who answer."""

import asyncio
from datetime import UTC, datetime

from transhume.errors import PeerRefused
from transhume.execute.migration.trust.certificates import (
    CERTIFICATE_FILE,
    facts_of,
    read_certificate,
)
from transhume.execute.migration.trust.checking import check_standing
from transhume.execute.migration.trust.identity import Identity, expect_peer
from transhume.execute.migration.trust.peers import Peer

_SHUTDOWN_SECONDS = 1.0
_RENEW = "renew it with `transhume ca renew`"


async def call(
    identity: Identity, host: str, port: int, expected: Peer, *, limit_bytes: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to somebody; whoever else answers is hung up on.

    Args:
        identity: ours.
        host, port: where they listen.
        expected: who they are.
        limit_bytes: of a line, and of half of what is read ahead.

    Raises:
        OSError: they can't be reached.
        PeerRefused: somebody else is there.
        IdentityUnusable: our own certificate has ended; whom it's shown to would hang up without a word.
    """
    path = identity.folder / CERTIFICATE_FILE
    check_standing(path, facts_of(read_certificate(path)), datetime.now(UTC), _RENEW)
    reader, writer = await asyncio.open_connection(
        host,
        port,
        ssl=identity.client_context(),
        ssl_shutdown_timeout=_SHUTDOWN_SECONDS,
        limit=limit_bytes,
    )
    try:
        expect_peer(writer.get_extra_info("ssl_object"), expected)
    except PeerRefused:
        writer.transport.abort()
        raise
    return reader, writer
