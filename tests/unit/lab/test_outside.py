"""The connection from outside, against guests that behave and guests that don't."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from transhume.lab.outside import OutsideConnection, Survived, pattern


def test_the_pattern_at_an_offset_is_a_part_of_the_whole():
    whole = pattern(0, 200_000)

    assert pattern(65_500, 1000) == whole[65_500:66_500]
    assert pattern(131_000, 69_000) == whole[131_000:]
    assert len(set(whole[:1000])) > 100


def test_an_echo_is_counted_and_checked():
    with serving(lambda data: data) as port:
        survived = survived_with(port, lambda found: found.bytes >= 3000)

    assert survived.failure is None
    assert survived.longest_silence_s > 0


def test_a_wrong_byte_ends_the_connection():
    with serving(lambda data: data[:-1] + bytes([data[-1] ^ 1])) as port:
        survived = survived_with(port, lambda found: found.failure is not None)

    assert survived.failure == "after 0 bytes: the guest echoed other bytes than were sent"


def test_a_guest_that_hangs_up_is_noticed():
    with serving(lambda data: b"") as port:
        survived = survived_with(port, lambda found: found.failure is not None)

    assert survived.failure is not None


def survived_with(port: int, enough: Callable[[Survived], bool]) -> Survived:
    deadline = time.monotonic() + 10
    with OutsideConnection("127.0.0.1", netns=None, port=port) as connection:
        while not enough(connection.survived()) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return connection.survived()


@contextmanager
def serving(answer: Callable[[bytes], bytes]) -> Iterator[int]:
    """Serve one connection; an empty answer ends it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve_one, args=(server, answer))
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def serve_one(server: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    connection, _ = server.accept()
    with connection:
        while (data := connection.recv(65536)) and (answered := answer(data)):
            connection.sendall(answered)
