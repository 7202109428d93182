"""The receiving end of a TCP stream, as a process: `stream FD SECONDS WARM_UP` tells bytes a second."""

import socket
import sys
import time


def receive(connection: socket.socket, seconds: float, warm_up_seconds: float) -> float:
    """Read for a while and return bytes a second, without those of the beginning."""
    buffer = bytearray(1 << 20)
    connection.settimeout(10)
    began = time.monotonic()
    while time.monotonic() < began + warm_up_seconds:
        if not connection.recv_into(buffer):
            return 0.0
    began, came = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        part = connection.recv_into(buffer)
        if not part:
            break
        came += part
    return came / (now - began)


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        print(receive(connection, float(sys.argv[2]), float(sys.argv[3])), flush=True)


if __name__ == "__main__":
    main()
