"""Sockets of hypervisors: how much is read at once, how long that takes, and who is held up meanwhile."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from select import select

import pytest

from transhume.execute.migration.machine.sockets import read_flow, send_all, wait_for_flows

PIECE = bytes(range(256)) * 128
"""What a hypervisor writes at once, 32 KiB."""
PATIENCE_SECONDS = 60.0
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A gateway's end, ready for flows, and a hypervisor's, which gives up where nobody reads."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(PATIENCE_SECONDS)
        wait_for_flows(ours)
        yield ours, theirs


def flow(connection: socket.socket, pieces: int) -> threading.Thread:
    def write() -> None:
        for _ in range(pieces):
            connection.sendall(PIECE)

    writing = threading.Thread(target=write)
    writing.start()
    return writing


def wait_until_full(connection: socket.socket) -> None:
    """Wait until a writer has filled what the kernel holds for it, and waits."""
    held, before = 0, -1
    while not held or held != before:
        threading.Event().wait(0.05)
        with suppress(BlockingIOError):
            peeked = connection.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            held, before = len(peeked), held


def test_a_flow_fills_a_buffer_many_times_as_large_as_the_sockets(pair: Pair) -> None:
    ours, theirs = pair
    pieces = 256
    writing = flow(theirs, pieces)
    wait_until_full(ours)
    room = memoryview(bytearray(pieces * len(PIECE)))
    at, reads = 0, 0
    while at < len(room):
        select([ours], [], [], PATIENCE_SECONDS)
        at += len(read_flow(ours, room[at:]))
        reads += 1
    writing.join()
    assert bytes(room) == PIECE * pieces
    assert reads < pieces / 4  # one, but for a writer that isn't given the processor


def test_a_flow_that_stops_is_given_out_as_far_as_it_came(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(PIECE * 4)
    read = read_flow(ours, memoryview(bytearray(1 << 20)))
    assert bytes(read) == PIECE * 4


def test_the_end_of_a_flow_is_no_part_of_it(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(PIECE * 4)
    theirs.shutdown(socket.SHUT_WR)
    room = memoryview(bytearray(1 << 20))
    assert bytes(read_flow(ours, room)) == PIECE * 4
    assert len(read_flow(ours, room)) == 0


def test_little_is_given_out_without_waiting_for_more(pair: Pair) -> None:
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))  # it would wait for ever
    theirs.sendall(b"the last of a guest")
    assert bytes(read_flow(ours, memoryview(bytearray(1 << 20)))) == b"the last of a guest"


def test_what_was_broken_off_is_said_to_be(pair: Pair) -> None:
    ours, theirs = pair
    ours.sendall(b"nobody reads this")
    theirs.close()
    with pytest.raises(ConnectionResetError):
        read_flow(ours, memoryview(bytearray(1 << 20)))


async def test_who_sends_to_one_that_doesnt_read_holds_up_nobody(pair: Pair) -> None:
    ours, theirs = pair
    sent = PIECE * 64
    sending = asyncio.create_task(send_all(ours, sent))
    await asyncio.sleep(0.05)  # which wouldn't end if the loop stood still
    assert not sending.done()

    def read() -> bytes:
        content = b""
        while len(content) < len(sent):
            content += theirs.recv(1 << 20)
        return content

    assert await asyncio.to_thread(read) == sent
    await sending
