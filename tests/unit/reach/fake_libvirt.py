"""What `libvirt.open` gives, as far as connections matter."""

# ruff: noqa: N802  (libvirt's names)


class Connection:
    """One that is alive until it's closed."""

    def __init__(self) -> None:
        self.alive = True

    def isAlive(self) -> bool:
        return self.alive

    def setKeepAlive(self, _seconds: int, _count: int) -> None:
        pass

    def close(self) -> None:
        self.alive = False
