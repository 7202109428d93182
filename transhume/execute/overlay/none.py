"""The overlay of a federation that needs none, because its clouds share a layer-2 network already."""

from collections.abc import Sequence

from transhume.knowledge.model import MacAddress


class NoOverlay:
    """Leave the network alone: the announcement that QEMU sends after a move re-points the switches."""

    async def join(self) -> None:
        """Do nothing."""

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Do nothing."""

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Find nothing wrong."""
        return ()

    async def remove(self) -> None:
        """Do nothing."""
