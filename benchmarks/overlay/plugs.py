"""How an endpoint in a namespace of its own is plugged into a bridge: by a veth, or by a tap as a VM is."""

import os
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fcntl import ioctl
from pathlib import Path

from benchmarks.overlay.sites import ip
from transhume.lab.compiling import compile_program
from transhume.reach.netns import inside

Plug = Callable[[str, str, str], None]
"""Makes a port in a namespace, and eth0 in an endpoint's."""
SOURCE = Path(__file__).with_name("carrier.c")
_SET_INTERFACE, _SET_OFFLOADS = 0x400454CA, 0x400454D0
_TAP, _NO_INFORMATION, _VIRTIO_HEADERS = 0x0002, 0x1000, 0x4000
_CHECKSUMS, _TCP4, _TCP6 = 1, 2, 4


def by_veth(netns: str, port: str, endpoint: str) -> None:
    """Plug it in by a veth, which hands over what it gets as it is."""
    ip(netns, f"link add {port} type veth peer name eth0 netns {endpoint}")


@contextmanager
def by_taps() -> Iterator[Plug]:
    """Plug endpoints in by taps, with a process for each that carries its frames, as long as the context lasts.

    Its own side is a second tap, in place of a guest's ring: so each frame is copied once more at each end than
    by a hypervisor, whichever way it goes.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        program = Path(folder) / "carrier"
        compile_program(SOURCE, program)

        def plug(netns: str, port: str, endpoint: str) -> None:
            fds = [_tap(netns, port), _tap(endpoint, "eth0")]
            carrier = subprocess.Popen([program, *map(str, fds)], pass_fds=fds)
            for fd in fds:
                os.close(fd)
            stack.callback(carrier.wait)
            stack.callback(carrier.kill)

        yield plug


def _tap(netns: str, name: str) -> int:
    """Open a tap whose frames may be segments of 64 KB with checksums that are still to be made."""
    with inside(netns):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        flags = _TAP | _NO_INFORMATION | _VIRTIO_HEADERS
        ioctl(fd, _SET_INTERFACE, struct.pack("16sH22x", name.encode(), flags))
        ioctl(fd, _SET_OFFLOADS, _CHECKSUMS | _TCP4 | _TCP6)
    return fd
