"""What the executor asks of an overlay: a network in which a VM keeps its addresses wherever it runs.

Owns the promise alone. Each call may be repeated: after a crash the executor says everything once more.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from transhume.knowledge.model import MacAddress, VmName


class Overlay(Protocol):
    """One virtual network over the bridges of all sites."""

    async def join(self) -> None:
        """Connect the bridges of all sites; what is connected already is left alone.

        Raises:
            OverlayError: a site lacks its bridge or its underlay.
        """

    def obstacle(self, macs: Sequence[MacAddress], site: str) -> str | None:
        """Say why `macs` can never be reached at `site`; None where they can."""
        ...

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Send the frames for `macs` to `site`, from every site; whatever was known before is corrected.

        Raises:
            OverlayError: a site can't be programmed.
        """

    async def adopt(self, macs: Sequence[MacAddress], site: str) -> None:
        """Take note of where an inventory has seen `macs`; whoever knows better isn't contradicted.

        Raises:
            OverlayError: a site can't be programmed.
        """

    def hand_over(
        self, vm: VmName, macs: Sequence[MacAddress], source: str, destination: str
    ) -> AbstractAsyncContextManager[None]:
        """Have it known, while the context lasts, that a VM is about to stop at one site and to run at another.

        Never raises: a move isn't put off for it.
        """

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Say what keeps frames for `macs` from reaching `site`, one line each; empty where all is right."""

    async def remove(self) -> None:
        """Take away what `join` and `bind` made, and nothing else."""
