"""What the executor asks of an overlay: a network in which a VM keeps its addresses wherever it runs.

Owns the promise alone. Each call may be repeated: after a crash the executor says everything once more.
"""

from collections.abc import Sequence
from typing import Protocol

from transhume.knowledge.model import MacAddress


class Overlay(Protocol):
    """One virtual network over the bridges of all sites."""

    async def join(self) -> None:
        """Connect the bridges of all sites; what is connected already is left alone.

        Raises:
            OverlayError: a site lacks its bridge or its underlay.
        """

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Send the frames for `macs` to `site`, from every site; whatever was known before is corrected.

        Raises:
            OverlayError: a site can't be programmed.
        """

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Say what keeps frames for `macs` from reaching `site`, one line each; empty where all is right."""

    async def remove(self) -> None:
        """Take away what `join` and `bind` made, and nothing else."""
