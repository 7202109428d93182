"""What a way to keep a network whole while VMs move has to do: the seam between the harness and each of them.

A way lives as long as a lab, and works between `join` and `leave`: ways take turns on the same bridges.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from transhume.knowledge.model import MacAddress
from transhume.lab.lab import Lab
from transhume.lab.spec import GuestSpec

Places = Mapping[MacAddress, str]
"""At which site who is: guests and neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """A live move of one guest."""

    guest: GuestSpec
    source: str
    destination: str


class Way(Protocol):
    """One kind of network between the sites of one lab."""

    async def join(self, places: Places) -> None:
        """Make the network, with everybody where he is; nothing of another way is there."""

    async def before(self, moving: Moving) -> None:
        """Do what is done before the hypervisor is asked for a move."""

    async def after(self, moving: Moving) -> None:
        """Do what is done once the hypervisor says that the move is over."""

    async def leave(self) -> None:
        """Take away what `join` made."""


Opening = Callable[[Lab], AbstractAsyncContextManager[Way]]
"""Makes a way ready for a lab, and clears up after it."""
