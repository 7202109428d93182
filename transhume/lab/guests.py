"""The lab's guests: started through libvirt, spoken to through their command server.

A guest is reached from the gateway site over the overlay, so that it answers at the same address wherever it
runs.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transhume.errors import ExtraMissing, LabError
from transhume.knowledge.model import IpAddress
from transhume.lab.domain_xml import domain_xml
from transhume.lab.initramfs import COMMANDS_PORT
from transhume.lab.spec import EDGE, GuestSpec
from transhume.reach.netns import socket_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command in a guest wrote, and how it ended."""

    output: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What one role of a guest's agent has done with one peer."""

    role: str
    """`send`, `receive`, `echo`, `memory`, `unique`, `write` or `disk`."""
    peer: str
    bytes: int
    errors: int
    """Stretches, pages or files that weren't as they should be; for `send`, connections that broke."""
    connections: int
    """How many there have been: more than one means that the first one broke."""
    sweeps: int
    """How often all of the memory or all files were verified."""


@contextmanager
def hypervisor(uri: str) -> Iterator[Any]:
    """Yield a libvirt connection.

    Raises:
        LabError: libvirt refused, here or within the block.
    """
    try:
        import libvirt
    except ImportError as error:
        raise ExtraMissing("libvirt", "the lab") from error
    libvirt.registerErrorHandler(lambda *_: None, None)  # it would write to stderr
    try:
        connection = libvirt.open(uri)
        try:
            yield connection
        finally:
            connection.close()
    except libvirt.libvirtError as error:
        raise LabError(f"{uri}: {error}") from error


def boot(uri: str, guests: list[GuestSpec]) -> None:
    """Define the guests and start them."""
    with hypervisor(uri) as connection:
        for guest in guests:
            connection.defineXML(domain_xml(guest)).create()


def running(uri: str) -> tuple[str, ...]:
    """Name the guests that a hypervisor runs."""
    with hypervisor(uri) as connection:
        import libvirt

        # In one question: whoever were asked by itself may have left meanwhile.
        active = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return tuple(sorted(domain.name() for domain in active))


def run_in_guest(ip: IpAddress, command: str, *, timeout_s: float = 30.0) -> Answer:
    """Run one shell command line in a guest.

    Raises:
        OSError: the guest doesn't answer.
    """
    if "\n" in command:
        raise LabError("a guest runs one line at a time; join the lines with `;`")
    with socket_in(EDGE) as connection:
        connection.settimeout(timeout_s)
        connection.connect((ip, COMMANDS_PORT))
        connection.sendall(command.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    output, mark, status = received.rpartition(b"\0")
    if not mark:
        raise ConnectionError(f"{ip} hung up before the command had ended")
    return Answer(output=output.decode(errors="replace"), status=int(status))


def wait_until_up(ip: IpAddress, *, patience_s: float) -> bool:
    """Wait for a guest's command server; say whether it came."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            return run_in_guest(ip, "true", timeout_s=3.0).status == 0
        except OSError:
            time.sleep(0.25)
    return False


def counters(ip: IpAddress) -> tuple[Counter, ...]:
    """Read all counters of a guest's agent.

    Raises:
        OSError: the guest doesn't answer.
    """
    lines = run_in_guest(ip, "guest report").output.splitlines()
    return tuple(Counter(**json.loads(line)) for line in lines)
