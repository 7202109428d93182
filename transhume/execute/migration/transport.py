"""The seam between a move and what carries its bytes from host to host.

A transport opens a `Route` for one migration and closes it afterwards. `Direct` lets the two hypervisors
talk to each other; one that stands between them gives its own socket as `migrate_uri`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from transhume.knowledge.model import CloudName, HostName, Transfer, VmName

Link = tuple[CloudName, CloudName]
"""From where to where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a transport tells of a migration under way."""

    transfer: Transfer
    """What became of its bytes so far."""
    disks: Transfer | None = None
    """Of that, the disks' part, where the transport tells it apart."""
    waiting_bytes: int = 0
    """What the hypervisor takes for sent, and the transport hasn't come to yet; raw."""
    link_bytes_per_second: float | None = None
    """What its link carries, on the wire, where that is the narrow place."""
    link_is_known: bool = True
    """Whether enough has crossed to say whether it is."""


async def _uncounted(_remaining_bytes: int | None) -> None:
    return None


async def _untold(_stands_still: bool) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What a migration may use of the link that it goes over."""

    gang: str
    """Migrations of one gang, over one link, have their shares in common, and are to end together."""
    bytes_per_second: float | None = None
    """On the wire; None: all that the link gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How the source hypervisor reaches the destination for one migration."""

    migrate_uri: str | None = None
    """What the source connects to; None: what the destination proposes."""
    disks_uri: str | None = None
    """What the source connects to with the disks that are copied; None: what the destination proposes."""
    bytes_per_second: float | None = None
    """The rate that the migration may use; None: all that the path gives."""
    link: Link | None = None
    """What it has in common with other migrations; None: nothing that is known of."""
    progress: Callable[[int | None], Awaitable[Progress | None]] = _uncounted
    """Takes how many bytes the hypervisor has still to send, where that's known, and tells what became of
    those so far, where somebody counts them."""
    tell_of_pause: Callable[[bool], Awaitable[None]] = _untold
    """Takes notice whether the guest stands still, from now on: if so, nothing is more urgent."""


class Transport(Protocol):
    """Something that carries migrations."""

    def route(
        self, vm: VmName, source: HostName, destination: HostName, share: Share | None = None
    ) -> AbstractAsyncContextManager[Route]:
        """Open a route for one migration; leaving the context takes it away.

        A share is kept to where there is somebody to keep it: hypervisors that talk to each other have all
        that their path gives.
        """
        ...


class Direct:
    """Let the hypervisors connect to each other."""

    @asynccontextmanager
    async def route(
        self, vm: VmName, source: HostName, destination: HostName, share: Share | None = None
    ) -> AsyncIterator[Route]:
        """Give the route that needs nothing."""
        yield Route()
