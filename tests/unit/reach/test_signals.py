"""The end of a service by signals, which are real: this process sends them to itself."""

import asyncio
import os
import signal

import pytest

from transhume.reach.signals import run_until_told


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
async def test_a_signal_ends_a_service_that_cleans_up(number: signal.Signals) -> None:
    done = []

    async def service() -> None:
        try:
            done.append("began")
            send(number)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            done.append("cleaned up")

    await run_until_told(service())
    assert done == ["began", "cleaned up"]


async def test_further_signals_dont_disturb_a_service_that_cleans_up() -> None:
    done = []
    handled = asyncio.Event()

    async def service() -> None:
        try:
            send(signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            send(signal.SIGTERM)
            send(signal.SIGINT)
            send(signal.SIGUSR1)  # whose turn comes when those before it have had theirs
            await handled.wait()
            done.append("cleaned up")

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, handled.set)
    await run_until_told(service())
    assert done == ["cleaned up"]


async def test_a_service_that_fails_while_it_ends_is_heard() -> None:
    async def service() -> None:
        try:
            send(signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            raise OSError("can't clean up")

    with pytest.raises(OSError, match="can't clean up"):
        await run_until_told(service())


async def test_a_service_that_nobody_ends_ends_as_it_does() -> None:
    done = []

    async def service() -> None:
        done.append("all")

    await run_until_told(service())
    assert done == ["all"]


async def test_who_cancels_a_service_without_a_signal_learns_of_it() -> None:
    """What waits for the service is to end too, and not to go on as after an orderly end."""
    done = []
    began = asyncio.Event()

    async def service() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            done.append("cleaned up")

    running = asyncio.create_task(run_until_told(service()))
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert done == ["cleaned up"]
