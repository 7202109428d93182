"""A daemon that waits for something when it is told to end, as a process of its own."""

import asyncio
import signal
import sys
from asyncio.subprocess import STDOUT, Process, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.daemon_stage import ONE_SERVER
from transhume.knowledge.server import ServerAddress
from transhume.knowledge.store import Store

HANGS = """
import threading
from transhume.cli import main
from transhume.policies.book import PolicyBook

look = PolicyBook.refresh
looks = iter(range(1, 9))

def refresh(book):
    if next(looks) < LAST:
        return look(book)
    print("hangs", flush=True)
    threading.Event().wait()

PolicyBook.refresh = refresh
main()
"""

STOPS_NEVER = """
import threading
from transhume.cli import main
from transhume.daemon.service import Daemon

def stop(_):
    print("hangs", flush=True)
    threading.Event().wait()

Daemon.stop = stop
main()
"""

told = pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)


@asynccontextmanager
async def running(url: str, folder: Path, *program: str) -> AsyncIterator[Process]:
    config, policy = folder / "transhume.yaml", folder / "flee.yaml"
    config.write_text(f"clouds: {{home: {{}}}}\nknowledge: {{url: '{url}'}}\n")
    policy.write_text("policy: flee\n")
    words = [*program, "run", "--config", str(config), "--policies", str(policy)]
    daemon = await create_subprocess_exec(sys.executable, *words, stdout=-1, stderr=STDOUT)
    try:
        async with asyncio.timeout(60):
            yield daemon
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()


async def said(daemon: Process, words: bytes) -> None:
    assert daemon.stdout is not None
    while words not in (line := await daemon.stdout.readline()):
        assert line, "it has ended"


async def ended_well(daemon: Process) -> None:
    said, _ = await daemon.communicate()
    assert (daemon.returncode, b"Traceback" in said) == (0, False), said


@told
async def test_one_that_waits_for_the_pen_ends(
    server: ServerAddress, store: Store, tmp_path: Path, told: signal.Signals
) -> None:
    lease = store.lease("another", 3600)
    await lease.acquire()
    async with running(server.url, tmp_path, "-m", "transhume") as daemon:
        await said(daemon, b"waiting_for_lease")
        daemon.send_signal(told)
        await ended_well(daemon)
    await lease.renew()


@ONE_SERVER
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("look", [1, 2])
async def test_one_whose_policies_are_on_a_disk_that_hangs_ends(
    server: ServerAddress, tmp_path: Path, look: int
) -> None:
    """At its start, or while it runs."""
    program = HANGS.replace("LAST", str(look))
    async with running(server.url, tmp_path, "-c", program) as daemon:
        await said(daemon, b"hangs")
        daemon.send_signal(signal.SIGTERM)
        await ended_well(daemon)


@ONE_SERVER
@pytest.mark.usefixtures("store")
@told
async def test_a_second_signal_ends_one_that_gives_no_answer_any_more(
    server: ServerAddress, tmp_path: Path, told: signal.Signals
) -> None:
    async with running(server.url, tmp_path, "-c", STOPS_NEVER) as daemon:
        await said(daemon, b"policies_in_force")
        daemon.send_signal(told)
        await said(daemon, b"hangs")
        daemon.send_signal(told)
        assert await daemon.wait() == -told
