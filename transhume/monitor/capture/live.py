"""Live capture: the traffic of VMs as their hypervisor's interfaces see it, window by window.

Owns which interfaces are listened to (they come and go with the VMs) and when a window is over. Both directions
of a tap are in its windows: a frame on its way to the guest counts as much as one from it. Counting is
`accumulate`'s, shared with capture files, so that a capture gives the same windows live and from disk.
"""

import asyncio
import errno
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from fnmatch import fnmatchcase

from transhume.deployment.model import CapturePoint
from transhume.errors import UsageError
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.accumulate import Accumulator
from transhume.monitor.capture.ring import BLOCKS, Ring
from transhume.reach.netns import inside

LOOK_AROUND_SECONDS = 0.5
"""How often interfaces are looked for and windows handed out."""
GRACE_SECONDS = 0.25
"""How long after its end a window waits for frames that the kernel still holds."""
_BLOCKS_AT_ONCE = 2
_GONE = (errno.ENODEV, errno.ENXIO)

InterfaceKey = tuple[int, str]


class LiveCapture:
    """Captures at one host.

    Args:
        point: where; each matching interface becomes a capture point of its own, `host/interface`.
        seconds: the windows' length.
        clock: seconds since the epoch, as the kernel stamps frames.
    """

    def __init__(
        self, point: CapturePoint, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._point = point
        self._seconds = seconds
        self._clock = clock
        self._listeners: dict[InterfaceKey, _Listener] = {}

    async def windows(self) -> AsyncGenerator[TrafficWindow, None]:
        """Yield the windows of all interfaces, each soon after its end; an idle interface gives empty ones.

        It never ends by itself. Cancelling it closes the sockets; what the open windows held is then lost.

        Raises:
            UsageError: the process may not capture, or the network namespace isn't there.
        """
        try:
            while True:
                for window in self._look_around():
                    yield window
                await asyncio.sleep(min(LOOK_AROUND_SECONDS, self._seconds))
        finally:
            for key in list(self._listeners):
                self._listeners.pop(key).close()

    def _look_around(self) -> Iterator[TrafficWindow]:
        present = self._matching()
        for key in present - self._listeners.keys():
            self._listen(key)
        for key, listener in list(self._listeners.items()):
            if key in present:
                yield from listener.windows_before(self._clock() - GRACE_SECONDS)
            else:
                del self._listeners[key]
                yield from listener.last_windows()

    def _matching(self) -> set[InterfaceKey]:
        with inside(self._point.netns):
            found = socket.if_nameindex()
        patterns = self._point.interfaces
        return {(i, name) for i, name in found if any(fnmatchcase(name, p) for p in patterns)}

    def _listen(self, key: InterfaceKey) -> None:
        _, name = key
        counted = Accumulator(self._seconds, f"{self._point.host}/{name}")
        try:
            ring = Ring(self._point.netns, name)
        except PermissionError as error:
            raise UsageError(
                f"can't capture at {self._point.host}: opening a packet socket takes root or CAP_NET_RAW;"
                " run as root, or grant it with `setcap cap_net_raw+ep` to the interpreter"
            ) from error
        except OSError as error:
            if error.errno in _GONE:  # it went while we looked; or it will be seen the next time
                return
            raise
        self._listeners[key] = _Listener(ring, counted)


class _Listener:
    """One interface that is listened to."""

    def __init__(self, ring: Ring, counted: Accumulator) -> None:
        self._ring = ring
        self._counted = counted
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ring.socket, self._read)

    def windows_before(self, until: float) -> Iterator[TrafficWindow]:
        """Hand out the windows that were over at `until`, and open the one after."""
        self._count(BLOCKS)
        current = self._counted.bin_at(int(until * 1e9))
        drops = self._ring.take_drops()
        if drops:
            self._counted.add_dropped(current, drops)
        yield from self._counted.take_before(current)
        self._counted.touch(current)

    def last_windows(self) -> Iterator[TrafficWindow]:
        """Hand out what is left, and close."""
        self._count(BLOCKS)
        self.close()
        yield from self._counted.take_all()

    def close(self) -> None:
        self._loop.remove_reader(self._ring.socket)
        self._ring.close()

    def _read(self) -> None:
        # A few blocks at a time: whatever else runs in this event loop gets its turn.
        if not self._count(_BLOCKS_AT_ONCE):
            self._ring.forget_error()

    def _count(self, blocks: int) -> int:
        frames = 0
        for at_ns, data, length, link in self._ring.frames(blocks):
            self._counted.add(at_ns, data, length, link)
            frames += 1
        return frames
