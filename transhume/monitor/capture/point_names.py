"""What the capture points in one file are called.

A file of one interface is one capture point, called by the file's name. One that tells interfaces apart holds
several: a frame that a bridge passed on is in it twice. Their names depend on the interface and on what the
file's front says, and not on what comes later in it, so that each part of a file gives the same names.
"""

from transhume.monitor.capture.scan import FileHead


def point_name(file: str, front: FileHead, head: FileHead, interface: int) -> str:
    """Return the capture point of a file's interface.

    Args:
        file: what the file is called.
        front: what the file says before its first frame.
        head: what it says up to a frame of that interface.
        interface: its number over the whole file.
    """
    if not front.tells_interfaces_apart and _continues_first(head, interface):
        return file
    name = head.interface_name(interface)
    alike = [n for n in range(len(front.interfaces)) if front.interface_name(n) == name]
    if interface in alike[1:]:
        return f"{file}:{name}#{interface}"
    return f"{file}:{name}"


def _continues_first(head: FileHead, interface: int) -> bool:
    """Say whether an interface is the first one again, as in captures written one behind the other."""
    if interface == 0 or interface >= len(head.interfaces):
        return interface == 0
    first, this = head.interfaces[0], head.interfaces[interface]
    return (this.name, this.link) == (first.name, first.link)
