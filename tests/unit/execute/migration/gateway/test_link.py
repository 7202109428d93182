"""How much waits unsent on a link between two gateways."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from transhume.execute.migration.gateway.link import LEAST_UNSENT_BYTES, UNSENT_BYTES, Link

NOTSENT_LOWAT = 25


@asynccontextmanager
async def a_link() -> AsyncIterator[tuple[Link, asyncio.StreamWriter]]:
    async def nobody(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(nobody, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield Link("b", reader, writer), writer
        finally:
            writer.close()


def waiting(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return how much may wait in the process and in the kernel."""
    connection = writer.get_extra_info("socket")
    _low, high = writer.transport.get_write_buffer_limits()
    return high, connection.getsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT)


@pytest.mark.parametrize(
    ("bytes_per_second", "expected"),
    [
        pytest.param(None, UNSENT_BYTES, id="unknown"),
        pytest.param(125e6, UNSENT_BYTES, id="fast"),
        pytest.param(1.25e6, 31_250, id="slow"),
        pytest.param(1e3, LEAST_UNSENT_BYTES, id="hardly any"),
    ],
)
async def test_no_more_waits_than_goes_by_in_a_moment(
    bytes_per_second: float | None, expected: int
) -> None:
    async with a_link() as (link, writer):
        link.keep_short(bytes_per_second)
        assert waiting(writer) == (expected, expected)


async def test_a_rate_that_wavers_changes_nothing_and_one_that_rises_does() -> None:
    async with a_link() as (link, writer):
        link.keep_short(1.25e6)
        link.keep_short(1.5e6)
        assert waiting(writer)[0] == 31_250
        link.keep_short(3e6)
        assert waiting(writer)[0] == 75_000
