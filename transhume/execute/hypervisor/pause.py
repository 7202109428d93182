"""How long a guest stands still in a migration, as seen from outside: by libvirt's events at both hosts.

From the source's SUSPENDED to the destination's RESUMED; QEMU's own `downtime` says a tenth of it. Both events
reach this process's one clock.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from transhume.execute.hypervisor.lifecycles import Lifecycles
from transhume.knowledge.model import HostName, VmName


class Pause:
    """One migration's."""

    def __init__(self, vm: VmName) -> None:
        self._vm = vm
        self._loop = asyncio.get_running_loop()
        self._stopped: float | None = None
        self._changes: asyncio.Queue[bool] = asyncio.Queue()
        self._resumed: asyncio.Future[float] = self._loop.create_future()

    @asynccontextmanager
    async def watched(
        self, lifecycles: Lifecycles, source: HostName, destination: HostName
    ) -> AsyncIterator[None]:
        """Listen to both hosts for as long as the context lasts.

        A measurement must not hinder a move: an event that can't be had leaves the pause unknown.
        """
        async with (
            lifecycles.told(source, self._seen_at_source),
            lifecycles.told(destination, self._running_there),
        ):
            yield

    @property
    def has_begun(self) -> bool:
        """Whether the guest has been stopped, as far as was heard."""
        return self._stopped is not None

    @property
    def is_over(self) -> bool:
        """Whether the guest runs at the destination, as far as was heard."""
        return self._resumed.done()

    async def changes(self) -> AsyncIterator[bool]:
        """Give, whenever that changes, whether the guest stands still."""
        while True:
            yield await self._changes.get()

    def when_over(self, then: Callable[[], None]) -> None:
        """Have something done as soon as the guest runs at the destination."""
        self._resumed.add_done_callback(lambda _: then())

    async def seconds(self) -> float | None:
        """Return how long the guest stood still, or None where an event did not come."""
        if self._stopped is None:
            return None
        try:
            resumed = await asyncio.wait_for(asyncio.shield(self._resumed), 1.0)
        except TimeoutError:
            return None
        return max(0.0, resumed - self._stopped)

    def _seen_at_source(self, domain: str, event: int, _detail: int) -> None:
        import libvirt

        if domain != self._vm:
            return
        if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
            self._stopped = time.monotonic()
            self._loop.call_soon_threadsafe(self._changes.put_nowait, True)
        elif event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
            self._loop.call_soon_threadsafe(self._changes.put_nowait, False)

    def _running_there(self, domain: str, event: int, _detail: int) -> None:
        import libvirt

        if domain == self._vm and event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
            self._loop.call_soon_threadsafe(self._note_resumed, time.monotonic())

    def _note_resumed(self, at: float) -> None:
        if not self._resumed.done():
            self._resumed.set_result(at)
            self._changes.put_nowait(False)
