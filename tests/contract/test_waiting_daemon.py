"""A daemon that waits for another's pen, as a process of its own."""

import asyncio
import signal
import sys
from asyncio.subprocess import STDOUT, create_subprocess_exec
from pathlib import Path

import pytest

from transhume.knowledge.server import ServerAddress
from transhume.knowledge.store import Store


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
async def test_one_that_waits_for_the_pen_ends_when_it_is_told_to(
    server: ServerAddress, store: Store, tmp_path: Path, told: signal.Signals
) -> None:
    config, policy = tmp_path / "transhume.yaml", tmp_path / "flee.yaml"
    config.write_text(f"clouds: {{home: {{}}}}\nknowledge: {{url: '{server.url}'}}\n")
    policy.write_text("policy: flee\n")
    lease = store.lease("another", 3600)
    await lease.acquire()

    words = ["-m", "transhume", "run", "--config", str(config), "--policies", str(policy)]
    daemon = await create_subprocess_exec(sys.executable, *words, stdout=-1, stderr=STDOUT)
    assert daemon.stdout is not None
    try:
        async with asyncio.timeout(60):
            while b"waiting_for_lease" not in (line := await daemon.stdout.readline()):
                assert line, "it has ended"
            daemon.send_signal(told)
            said, _ = await daemon.communicate()
        assert (daemon.returncode, b"Traceback" in said) == (0, False), said
        await lease.renew()
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()
