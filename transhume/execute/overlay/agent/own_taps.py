"""Whether a tap here is a VM's own: another machine of the site has taps of the same names.

Frames for that machine's VM would go to a stranger here. libvirt gives each tap the address of its VM's
interface but for the first byte, so that it's known again. What libvirt hasn't made is believed to be the VM's.
"""

import fcntl
import socket
import struct

from transhume.knowledge.model import Interface

_GET_ADDRESS = 0x8927
"""The ioctl SIOCGIFHWADDR."""
_REQUEST = struct.Struct("16sH6s16x")
_FIRST_BYTES = (0xFE, 0xFA)
"""Of taps that libvirt has made; the second where the VM's own begins with the first."""


def is_anothers(interface: Interface, asked: socket.socket) -> bool:
    """Say whether the tap of an interface's name is another VM's, where a socket was opened."""
    request = _REQUEST.pack(interface.device.encode(), 0, b"")
    try:
        _, _, found = _REQUEST.unpack(fcntl.ioctl(asked, _GET_ADDRESS, request))
    except OSError:  # there is none
        return False
    own = bytes.fromhex(interface.mac.replace(":", ""))
    return found[0] in _FIRST_BYTES and found[1:] != own[1:]
