"""How whoever runs a service ends it: SIGINT and SIGTERM."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


class FirstSignal:
    """The first of some signals, which cancels a task; further ones don't disturb that while it cleans up.

    For a process that does nothing else: signals are kept from it until its loop is closed. SIGHUP stays
    ignored where it is, as below nohup.
    """

    def __init__(
        self,
        running: "asyncio.Task[Any]",
        *numbers: signal.Signals,
    ) -> None:
        self.number: signal.Signals | None = None
        """Which it was, once it has come."""
        self._running = running
        for number in numbers:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, self._end, number)

    def _end(self, number: signal.Signals) -> None:
        if self.number is None:
            self.number = number
            self._running.cancel()


async def run_until_told(service: Coroutine[Any, Any, None]) -> None:
    """Run a service until it ends, or until the first SIGINT or SIGTERM, which cancels it.

    Further signals don't disturb it while it cleans up. What the service raises is raised here.
    """
    running = asyncio.create_task(service, name="service")
    told = FirstSignal(running, signal.SIGINT, signal.SIGTERM)
    try:
        await running
    except asyncio.CancelledError:
        if told.number is None:
            raise
