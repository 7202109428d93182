"""How much waits unsent on a link between two gateways, and when the other end is taken for gone."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from transhume.execute.migration.gateway.link import (
    LEAST_UNSENT_BYTES,
    UNSENT_BYTES,
    Link,
    LinkLost,
)
from transhume.execute.migration.gateway.messages import Kind, header

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


SILENCE_SECONDS = 1.0


@asynccontextmanager
async def a_watched_link() -> AsyncIterator[tuple[Link, asyncio.StreamWriter]]:
    """Have a link that is soon taken for lost, and what its other end says by."""
    there: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.set_result(writer)

    async with await asyncio.start_server(other, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        link = Link("b", reader, writer, silence_seconds=SILENCE_SECONDS)
        watching = asyncio.create_task(link.watch())
        says = await there
        try:
            yield link, says
        finally:
            watching.cancel()
            link.end("the test is over")
            says.close()


async def test_who_says_nothing_is_taken_for_gone() -> None:
    async with a_watched_link() as (link, _):
        with pytest.raises(LinkLost, match="has said nothing"):
            await link.receive()


async def test_a_message_that_takes_long_to_come_is_a_sign_of_life() -> None:
    async with a_watched_link() as (link, says):
        receiving = asyncio.create_task(link.receive())
        says.write(header(Kind.DIGESTS, 1, 12))
        for _ in range(12):
            await asyncio.sleep(SILENCE_SECONDS / 4)
            says.write(b"x")
        assert (await receiving).content == b"x" * 12


async def test_nobody_is_gone_because_we_didnt_listen() -> None:
    async with a_watched_link() as (link, says):
        says.write(header(Kind.PING, 0, 0))
        await link.receive()
        await asyncio.sleep(3 * SILENCE_SECONDS)
        says.write(header(Kind.PING, 0, 0))
        assert (await link.receive()).kind is Kind.PING


async def test_a_peer_that_takes_nothing_more_is_given_up_though_nobody_listens() -> None:
    async def sends(link: Link) -> None:
        while True:
            await link.send(Kind.DATA, 1, [bytes(1 << 20)])

    async with a_watched_link() as (link, says):
        says.transport.pause_reading()
        with pytest.raises(LinkLost):
            async with asyncio.timeout(20):
                await sends(link)
