"""Live capture: the traffic of VMs as their hypervisor's interfaces see it, window by window.

Owns which interfaces are listened to (they come and go with the VMs), when a window is over, and how much of
the traffic is looked at, so that capture stays within its share of a processor. Both directions of a tap are in
its windows: a frame on its way to the guest counts as much as one from it.

How frames are seen is up to `methods`; all give the same windows, but for frames near a border: where the
kernel adds them up, one within two ticks of its clock (some ms) of a window's end may be in either window.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase

import structlog

from transhume.deployment.model import CaptureMethod, CapturePoint
from transhume.errors import ExtraMissing
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.bpf import clsact, syscalls
from transhume.monitor.capture.interfaces import Interfaces, NetworkInterface
from transhume.monitor.capture.methods import Opener, Tap
from transhume.monitor.capture.sampling import Budget
from transhume.reach import open_files

LOOK_AROUND_SECONDS = 0.5
"""How often windows are handed out at the latest; news of interfaces come by themselves."""
BEHIND_THE_BORDER_SECONDS = 0.06
"""When the end of a window is looked at: by then the tables in the kernel are at rest."""
MEASURED_SECONDS = 0.02
"""For how much of each window the kernel looks at the clock with each program."""

log = structlog.get_logger()


class LiveCapture:
    """Captures at one host.

    Args:
        point: where, how, and at what cost; each matching interface becomes a capture point of its own,
            `host/interface`.
        seconds: the windows' length.
        clock: seconds since the epoch, as the kernel stamps frames.
    """

    def __init__(
        self, point: CapturePoint, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._point = point
        self._seconds = seconds
        self._clock = clock
        self._taps: dict[NetworkInterface, Tap] = {}
        self._opener = Opener(point, seconds, clock)
        self._budget = Budget(point.cpu_budget)
        self._share = 1.0
        self._changed = asyncio.Event()

    @property
    def methods(self) -> Mapping[str, CaptureMethod]:
        """How each interface is listened to now."""
        return {interface.name: tap.method for interface, tap in self._taps.items()}

    async def windows(self) -> AsyncGenerator[TrafficWindow, None]:
        """Yield the windows of all interfaces, each soon after its end; an idle interface gives empty ones.

        It never ends by itself. Cancelling it detaches from everything; what open windows held is then lost.

        Raises:
            UsageError: the process may not capture, or the network namespace isn't there.
        """
        open_files.allow_many()  # an interface takes eight, and a host may have hundreds
        await asyncio.to_thread(self._remove_leftovers)
        try:
            while True:
                with Interfaces(self._point.netns) as interfaces:
                    async for window in self._windows_in(interfaces):
                        yield window
        finally:
            while self._taps:
                self._close(*self._taps.popitem())

    async def _windows_in(self, interfaces: Interfaces) -> AsyncGenerator[TrafficWindow, None]:
        """Yield windows as long as the network namespace is the one that its name means."""
        loop = asyncio.get_running_loop()
        loop.add_reader(interfaces.changes, self._changed.set)
        try:
            while interfaces.is_current:
                self._changed.clear()
                windows = await self._look_around(interfaces)
                for window in windows:
                    yield window
                if windows:
                    await self._have_the_cost_measured()
                await self._wait()
            for window in await self._leave(set(self._taps)):
                yield window
        finally:
            loop.remove_reader(interfaces.changes)

    async def _look_around(self, interfaces: Interfaces) -> list[TrafficWindow]:
        deleted = interfaces.deleted()
        present = self._matching(interfaces)
        left = {each for each in self._taps if each not in present or each.number in deleted}
        windows = await self._leave(left)
        for interface in present - self._taps.keys():
            await self._listen(interface)
        now = self._clock()
        for tap in self._taps.values():
            windows += tap.windows_over(now)
        self._mind_the_budget(windows)
        return windows

    def _matching(self, interfaces: Interfaces) -> set[NetworkInterface]:
        patterns = self._point.interfaces
        return {
            each
            for each in interfaces.present()
            if any(fnmatchcase(each.name, p) for p in patterns)
        }

    async def _listen(self, interface: NetworkInterface) -> None:
        tap = await self._opener.open(interface)
        if tap is None:  # it went while we looked; or it will be seen the next time
            return
        self._taps[interface] = tap
        tap.sample(self._share)
        if tap.descriptor is not None:
            asyncio.get_running_loop().add_reader(tap.descriptor, tap.read)

    async def _leave(self, interfaces: set[NetworkInterface]) -> list[TrafficWindow]:
        """Return what taps that are gone still had to tell."""
        if not interfaces:
            return []
        for interface in interfaces:
            self._stop_reading(self._taps[interface])
        await asyncio.sleep(max(self._taps[each].linger_seconds for each in interfaces))
        return [window for each in interfaces for window in self._taps.pop(each).last_windows()]

    def _close(self, _: NetworkInterface, tap: Tap) -> None:
        self._stop_reading(tap)
        tap.close()

    def _stop_reading(self, tap: Tap) -> None:
        if tap.descriptor is not None:
            asyncio.get_running_loop().remove_reader(tap.descriptor)

    def _mind_the_budget(self, windows: list[TrafficWindow]) -> None:
        share = self._budget.account(sorted(windows, key=lambda window: window.start))
        if share == self._share:
            return
        log.info(
            "capture_sampling_changed",
            host=self._point.host,
            sampled=round(share, 6),
            before=round(self._share, 6),
            cpu_budget=self._point.cpu_budget,
        )
        self._share = share
        for tap in self._taps.values():
            tap.sample(share)

    async def _wait(self) -> None:
        """Wait for news, for the next window's end, or for a while."""
        border = self._seconds - (self._clock() - BEHIND_THE_BORDER_SECONDS) % self._seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(min(LOOK_AROUND_SECONDS, border)):
                await self._changed.wait()

    async def _have_the_cost_measured(self) -> None:
        """Have the kernel look at the clock with each program, for a while: always would cost too much."""
        statistics = self._begin_measuring()
        if statistics is None:
            return
        try:
            await asyncio.sleep(min(MEASURED_SECONDS, self._seconds / 4))
        finally:
            os.close(statistics)

    def _begin_measuring(self) -> int | None:
        if not any(tap.method is not CaptureMethod.RING for tap in self._taps.values()):
            return None
        try:
            return syscalls.enable_statistics()
        except OSError:  # then the programs' time isn't known, and isn't in the windows
            return None

    def _remove_leftovers(self) -> None:
        """Take away the filters of captures that were killed, where we may."""
        with suppress(ExtraMissing, OSError):
            if removed := clsact.sweep(self._point.netns):
                log.info("capture_leftovers_removed", host=self._point.host, filters=removed)
