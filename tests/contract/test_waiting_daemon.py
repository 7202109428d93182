"""A daemon that waits for something when it is told to end, as a process of its own."""

import asyncio
import signal
import sys
from asyncio.subprocess import STDOUT, create_subprocess_exec
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

told = pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)


async def ended(
    url: str, folder: Path, number: signal.Signals, program: tuple[str, str], *, after: bytes
) -> None:
    """Run a daemon, tell it to end once it has said something, and see that it does in good order."""
    config, policy = folder / "transhume.yaml", folder / "flee.yaml"
    config.write_text(f"clouds: {{home: {{}}}}\nknowledge: {{url: '{url}'}}\n")
    policy.write_text("policy: flee\n")
    words = [*program, "run", "--config", str(config), "--policies", str(policy)]
    daemon = await create_subprocess_exec(sys.executable, *words, stdout=-1, stderr=STDOUT)
    assert daemon.stdout is not None
    try:
        async with asyncio.timeout(60):
            while after not in (line := await daemon.stdout.readline()):
                assert line, "it has ended"
            daemon.send_signal(number)
            said, _ = await daemon.communicate()
        assert (daemon.returncode, b"Traceback" in said) == (0, False), said
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()


@told
async def test_one_that_waits_for_the_pen_ends(
    server: ServerAddress, store: Store, tmp_path: Path, told: signal.Signals
) -> None:
    lease = store.lease("another", 3600)
    await lease.acquire()
    await ended(server.url, tmp_path, told, ("-m", "transhume"), after=b"waiting_for_lease")
    await lease.renew()


@ONE_SERVER
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("look", [1, 2])
async def test_one_whose_policies_are_on_a_disk_that_hangs_ends(
    server: ServerAddress, tmp_path: Path, look: int
) -> None:
    """At its start, or while it runs."""
    program = ("-c", HANGS.replace("LAST", str(look)))
    await ended(server.url, tmp_path, signal.SIGTERM, program, after=b"hangs")
