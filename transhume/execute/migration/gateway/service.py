"""Runs a site's gateway until it's stopped: its port for other sites, its control socket, its operators.

Operators come by the unix socket, whose folder says who may, or over TLS with an operator's certificate.
"""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog

from transhume.errors import UsageError
from transhume.execute.migration.gateway.configuration import GatewaySettings
from transhume.execute.migration.gateway.control import MOST_LINE_BYTES, Control
from transhume.execute.migration.gateway.gateway import Gateway, start_gateway
from transhume.execute.migration.gateway.link import SILENCE_SECONDS
from transhume.execute.migration.gateway.warming import Warmer
from transhume.execute.migration.machine.sockets import listen, short_path
from transhume.execute.migration.trust.peers import Peer, PeerKind

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
    control = Control(gateway, Warmer(gateway))
    gateway.control = control.serve
    try:
        sites = await gateway.serve()
    except OSError as error:
        raise UsageError(f"the gateway can't listen on {settings.listen}: {error}") from error
    try:
        operators = await _listen_for_operators(settings.control, control)
    except OSError as error:
        sites.close()
        raise UsageError(f"the control socket {settings.control} can't be had: {error}") from error
    log.info("gateway_started", site=gateway.site, address=str(settings.listen))
    looking = asyncio.create_task(gateway.residents.run(), name="looking at residents")
    try:
        yield gateway
    finally:
        looking.cancel()
        for server in (operators, sites):
            server.close()
        await gateway.close()
        settings.control.unlink(missing_ok=True)
        log.info("gateway_stopped", site=gateway.site)


async def _listen_for_operators(path: Path, control: Control) -> asyncio.Server:
    here = Peer(kind=PeerKind.OPERATOR, name=f"uid-{os.getuid()}")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await control.serve(here, reader, writer)

    return await asyncio.start_unix_server(answer, sock=_take_place(path), limit=MOST_LINE_BYTES)


def _take_place(path: Path) -> socket.socket:
    """Listen where nobody else does, also where somebody who is gone did."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        with socket.socket(socket.AF_UNIX) as probe, short_path(path) as name:
            if probe.connect_ex(name) == 0:
                raise OSError("another gateway listens there")
        path.unlink()
    return listen(path)


async def serve_gateway(settings: GatewaySettings) -> None:
    """Run a gateway until SIGINT or SIGTERM."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with running_gateway(settings):
        await stopped.wait()
