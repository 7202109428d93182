"""Watching the taps while a program runs: by live capture, or by files that are read afterwards.

Both are used as a block: what happens within it has been seen, to the last frame, when the block is left.
"""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

from tests.system.fidelity.stage import NODES, TAPS, Stage, tap_name
from tests.system.tcpdump import Tcpdump
from transhume.deployment.model import CaptureMethod, CapturePoint
from transhume.knowledge.model import HostName, TrafficWindow
from transhume.monitor.capture.files import read_windows
from transhume.monitor.capture.live import LiveCapture

WINDOW_SECONDS = 0.25
LOOK_SECONDS = 0.1
"""How often it is asked whether the windows reach far enough."""
SECONDS_AT_MOST = 180.0
HEADER_BYTES = 96
"""What tcpdump keeps of a frame: the headers, as a capture of a busy network would."""

Windows = list[TrafficWindow]


@asynccontextmanager
async def live(stage: Stage, method: CaptureMethod = CaptureMethod.AUTO) -> AsyncIterator[Windows]:
    """Capture at all taps as the daemon does; by the method that it chooses for itself, if none is given."""
    windows: Windows = []
    point = CapturePoint(
        host=HostName("hv"), interfaces=(TAPS,), netns=stage.hypervisor, method=method
    )
    capturing = asyncio.create_task(_collect(LiveCapture(point, WINDOW_SECONDS), windows))
    try:
        await _reached(capturing, lambda: _seen_until(windows) > 0)
        yield windows
        end = time.time()
        await _reached(capturing, lambda: _seen_until(windows) >= end)
    finally:
        capturing.cancel()
        await asyncio.gather(capturing, return_exceptions=True)


@asynccontextmanager
async def by_files(stage: Stage, work: Path) -> AsyncIterator[Windows]:
    """Have tcpdump write a file for each tap, and read the files in the end."""
    windows: Windows = []
    files = [work / f"{tap_name(node)}.pcap" for node in range(NODES)]
    async with AsyncExitStack() as running:
        for node, file in enumerate(files):
            await running.enter_async_context(_tcpdump(stage, tap_name(node), file))
        yield windows
    for file in files:
        found, summary = read_windows(file, WINDOW_SECONDS)
        assert summary.stopped is None
        windows += found


def has_tcpdump() -> bool:
    """Say whether files can be written."""
    return shutil.which("tcpdump") is not None


async def _collect(capture: LiveCapture, into: Windows) -> None:
    async with aclosing(capture.windows()) as windows:
        async for window in windows:
            into.append(window)


def _seen_until(windows: Windows) -> float:
    """Return the time up to which all taps have been seen; 0 while there is one that hasn't."""
    until: dict[str, float] = {}
    for window in windows:
        end = window.start.timestamp() + window.seconds
        until[window.capture_point] = max(end, until.get(window.capture_point, 0.0))
    return min(until.values()) if len(until) == NODES else 0.0


async def _reached(capturing: asyncio.Task[None], goal: Callable[[], bool]) -> None:
    """Wait for a goal; if capturing ends before, raise what ended it."""
    async with asyncio.timeout(SECONDS_AT_MOST):
        while not goal():
            if capturing.done():
                capturing.result()
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def _tcpdump(stage: Stage, tap: str, file: Path) -> AsyncIterator[None]:
    """Run tcpdump on a tap."""
    options = ("-s", str(HEADER_BYTES), "-B", "8192", "-Z", "root")
    with Tcpdump(stage.hypervisor, tap, file, *options) as running:
        await asyncio.to_thread(running.wait_until_it_listens)
        yield
        summary = await asyncio.to_thread(running.end)
    assert "\n0 packets dropped by kernel" in summary, summary
