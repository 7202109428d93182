"""The overlay of a federation that needs none, because its clouds share a layer-2 network already."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from transhume.knowledge.model import MacAddress, VmName


class NoOverlay:
    """Leave the network alone: the announcement that QEMU sends after a move re-points the switches."""

    async def join(self) -> None:
        """Do nothing."""

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Do nothing."""

    async def adopt(self, macs: Sequence[MacAddress], site: str) -> None:
        """Do nothing."""

    def hand_over(
        self, vm: VmName, macs: Sequence[MacAddress], source: str, destination: str
    ) -> AbstractAsyncContextManager[None]:
        """Do nothing."""
        return nullcontext()

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Find nothing wrong."""
        return ()

    async def remove(self) -> None:
        """Do nothing."""
