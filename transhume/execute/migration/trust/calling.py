"""Calls somebody over TLS, and sees that it's them who answer."""

import asyncio

from transhume.errors import PeerRefused
from transhume.execute.migration.trust.identity import Identity, expect_peer
from transhume.execute.migration.trust.peers import Peer

_SHUTDOWN_SECONDS = 1.0


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
    """
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
