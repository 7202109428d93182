"""The kernel's settings of networks, in the namespace of the calling thread."""

from pathlib import Path

_NET = Path("/proc/sys/net")


def read(name: str) -> str:
    """Return a setting, such as `ipv4/ip_forward`; nothing where the kernel has none of the name."""
    path = _NET / name
    return path.read_text("ascii").strip() if path.exists() else ""


def write(name: str, value: str) -> None:
    """Change a setting, if there is such and it's another."""
    if read(name) not in {"", value}:
        (_NET / name).write_text(value)


def entries(folder: str) -> tuple[str, ...]:
    """Return the names in a folder of settings, such as `ipv6/conf`, which has one for each device."""
    path = _NET / folder
    return tuple(sorted(each.name for each in path.iterdir())) if path.exists() else ()
