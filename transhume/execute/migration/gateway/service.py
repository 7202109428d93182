"""Runs a site's gateway until it's stopped: its port for other sites, its control socket, its operators.

Operators come by the unix socket, whose folder says who may, or over TLS with an operator's certificate.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import structlog

from transhume.errors import UsageError
from transhume.execute.migration.gateway.configuration import GatewaySettings
from transhume.execute.migration.gateway.control import MOST_LINE_BYTES, Control
from transhume.execute.migration.gateway.gateway import Gateway, start_gateway
from transhume.execute.migration.gateway.link import SILENCE_SECONDS
from transhume.execute.migration.gateway.warming import Warmer
from transhume.execute.migration.machine.sockets import is_listening, listen
from transhume.execute.migration.trust.peers import Peer, PeerKind
from transhume.reach import open_files
from transhume.reach.signals import run_until_told

log = structlog.get_logger()


@asynccontextmanager
async def running_gateway(
    settings: GatewaySettings, *, silence_seconds: float = SILENCE_SECONDS
) -> AsyncIterator[Gateway]:
    """Have a gateway that listens and answers while the context lasts.

    Raises:
        IdentityUnusable: the site's certificate, its key or its authority can't be used.
        UsageError: an address or a socket can't be had, or an image can't be read.
    """
    gateway = await start_gateway(settings, silence_seconds=silence_seconds)
    async with AsyncExitStack() as begun:
        begun.push_async_callback(gateway.close)
        control = Control(gateway, Warmer(gateway))
        gateway.control = control.serve
        try:
            sites = await gateway.serve()
        except OSError as error:
            raise UsageError(f"the gateway can't listen on {settings.listen}: {error}") from error
        begun.callback(sites.close)
        await _listen_for_operators(settings.control, control, begun)
        log.info("gateway_started", site=gateway.site, address=str(settings.listen))
        looking = asyncio.create_task(gateway.residents.run(), name="looking at residents")
        begun.callback(looking.cancel)
        try:
            yield gateway
        finally:
            await begun.aclose()
            log.info("gateway_stopped", site=gateway.site)


async def _listen_for_operators(path: Path, control: Control, begun: AsyncExitStack) -> None:
    here = Peer(kind=PeerKind.OPERATOR, name=f"uid-{os.getuid()}")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await control.serve(here, reader, writer)

    try:
        place = _take_place(path)
    except OSError as error:
        raise UsageError(f"the control socket {path} can't be had: {error}") from error
    begun.callback(path.unlink, missing_ok=True)
    server = await asyncio.start_unix_server(answer, sock=place, limit=MOST_LINE_BYTES)
    begun.callback(server.close)


def _take_place(path: Path) -> socket.socket:
    """Listen where nobody else does, also where somebody who is gone did."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_socket():
        if is_listening(path):
            raise OSError("another gateway listens there")
        path.unlink()
    return listen(path)


async def serve_gateway(settings: GatewaySettings) -> None:
    """Run a gateway until SIGINT or SIGTERM."""
    open_files.allow_many()
    await run_until_told(_serve(settings))


async def _serve(settings: GatewaySettings) -> None:
    async with running_gateway(settings):
        await asyncio.Event().wait()
