"""How whoever runs a service ends it: SIGINT and SIGTERM."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


async def run_until_told(service: Coroutine[Any, Any, None]) -> None:
    """Run a service until it ends, or until the first SIGINT or SIGTERM, which cancels it.

    Further signals don't disturb it while it cleans up. For a process that does nothing else: signals are kept
    from it until its loop is closed. What the service raises is raised here.
    """
    running = asyncio.create_task(service, name="service")
    told = False

    def end() -> None:
        nonlocal told
        if not told:
            told = True
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        await running
    except asyncio.CancelledError:
        if not told:
            raise
