"""A server of our own: nobody else gets in, and it is gone when we are."""

import asyncio
import json
import os
import select
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from transhume.errors import KnowledgeUnreachable, LeaseHeld, UsageError
from transhume.knowledge import server as server_module
from transhume.knowledge.server import (
    Program,
    ServerAddress,
    ServerKind,
    find_server,
    open_server,
    run_server,
)
from transhume.knowledge.store import Store
from transhume.knowledge.wire import connect

NOBODY = 65534
PARENT = """
import asyncio, json, sys
from pathlib import Path
from transhume.knowledge.server import Program, ServerKind, run_server
from transhume.knowledge.store import Store
from transhume.knowledge.wire import connect

async def main(kind, path, state):
    async with run_server(Program(kind=ServerKind(kind), path=path), Path(state)) as address:
        async with Store.connect(address.url) as store, connect(address.url) as client:
            await store.lease("the killed one", 3600).acquire()
            print(json.dumps((await client.info("server"))["process_id"]), flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_it_listens_on_a_socket_of_ours_only(
    server: ServerAddress, state: Path, client: Redis
) -> None:
    path = state / "knowledge" / "socket"
    assert server.url == f"unix://{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert (await client.config_get("port"))["port"] == "0"
    assert (await client.info("server"))["tcp_port"] == 0


async def test_it_answers_a_write_only_when_it_is_on_disk(client: Redis) -> None:
    settings = await client.config_get("append*")
    assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")


async def test_what_was_written_is_there_after_a_restart(program: Program, state: Path) -> None:
    for turn in range(3):
        async with run_server(program, state) as address:
            async with connect(address.url) as client:
                assert int(await client.incr("turns")) == turn + 1
    with pytest.raises(KnowledgeUnreachable, match="transhume run"):
        find_server(None, state)


async def test_one_that_takes_long_to_read_its_files_is_waited_for(
    program: Program, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at what it is asked after each 1024 entries that it has read, and refuses most of that."""
    entries = 8 * 1024
    async with run_server(program, state) as address, connect(address.url) as client:
        await client.eval("for i = 1, ARGV[1] do redis.call('SET', 'key ' .. i, i) end", 0, entries)
    settings = server_module._settings

    def slowly(path: Path) -> Iterator[str]:
        yield from settings(path)
        yield from ("--key-load-delay", "300")  # microseconds

    monkeypatch.setattr(server_module, "_settings", slowly)
    async with run_server(program, state) as address, connect(address.url) as client:
        assert await client.dbsize() == entries


async def test_it_dies_with_a_daemon_that_is_killed_and_the_next_needs_not_wait(
    program: Program, state: Path
) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, program.kind, program.path, state, stdout=-1
    )
    assert parent.stdout is not None
    server_pid = json.loads(await asyncio.wait_for(parent.stdout.readline(), 60))
    watched = os.pidfd_open(server_pid)
    try:
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        ended, _, _ = await asyncio.to_thread(select.select, [watched], [], [], 60)
        assert ended
    finally:
        os.close(watched)
    async with run_server(program, state) as address, Store.connect(address.url) as store:
        await store.lease("the next one", 60).acquire()


async def test_one_that_ends_by_itself_is_begun_again_and_keeps_the_pen_where_it_is(
    program: Program, state: Path
) -> None:
    async with run_server(program, state) as address, Store.connect(address.url) as store:
        lease = store.lease("ada", 3600)
        await lease.acquire()
        async with connect(address.url) as client:
            pid = (await client.info("server"))["process_id"]
            for _ in range(2):
                os.kill(pid, signal.SIGKILL)
                killed, pid = pid, await _pid_of_another(client, pid)
                assert pid != killed
        await lease.renew()
        with pytest.raises(LeaseHeld):
            await store.lease("bob", 60).acquire()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def _pid_of_another(client: Redis, than: int) -> int:
    async with asyncio.timeout(60):
        while True:
            with suppress(RedisError, OSError):
                pid = int((await client.info("server"))["process_id"])
                if pid != than:
                    return pid
            await asyncio.sleep(0.01)


async def test_the_launcher_gives_up_when_its_parent_is_gone_already(state: Path) -> None:
    launcher = server_module.die_with_parent.__file__
    somebody_else = "1"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", launcher, somebody_else, "/bin/true", stderr=-1
    )
    _, said = await process.communicate()
    assert (process.returncode, said) == (1, b"the parent is gone already\n")


async def test_ctrl_c_in_the_terminal_is_not_for_the_server(client: Redis) -> None:
    pid = (await client.info("server"))["process_id"]
    assert os.getsid(pid) != os.getsid(0)


async def test_one_state_directory_is_for_one_daemon(
    server: ServerAddress, state: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "LOCK_SECONDS", 0.0)
    with pytest.raises(LeaseHeld, match=str(state)):
        async with run_server(program, state):
            pass
    async with connect(server.url) as client:
        assert await client.ping()


async def test_a_second_process_finds_the_running_server(
    server: ServerAddress, state: Path
) -> None:
    found = find_server(None, state)
    assert (found.url, found.kind) == (server.url, ServerKind.RUNNING)


async def test_a_url_is_preferred_to_a_server_of_our_own(
    server: ServerAddress, tmp_path: Path
) -> None:
    async with open_server(server.url, tmp_path) as address:
        assert address == ServerAddress(url=server.url, kind=ServerKind.URL)
    assert not (tmp_path / "knowledge").exists()


async def test_a_server_that_would_forget_what_is_ours_is_warned_of(
    server: ServerAddress, client: Redis, state: Path
) -> None:
    async def warned() -> list[str]:
        with capture_logs() as logs:
            async with open_server(server.url, state):
                pass
        return [line["policy"] for line in logs if line["event"] == "knowledge_may_be_evicted"]

    assert await warned() == []
    await client.config_set("maxmemory-policy", "allkeys-lru")
    assert await warned() == [], "without a limit nothing is forgotten"
    await client.config_set("maxmemory", "100mb")
    assert await warned() == ["allkeys-lru"]
    await client.config_set("maxmemory-policy", "volatile-lru")
    assert await warned() == [], "nothing that we keep runs out, but for the lease"


async def test_a_server_that_cannot_start_says_its_last_words(
    program: Program, state: Path
) -> None:
    async with run_server(program, state):
        pass
    manifest = state / "knowledge" / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("no manifest\n")
    with pytest.raises(KnowledgeUnreachable, match=r"server\.log"):
        async with run_server(program, state):
            pass


async def test_a_server_that_a_full_disk_keeps_from_starting_leaves_no_words(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log is on that disk as well."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    silent = Program(kind=ServerKind.REDIS, path="/bin/false")
    with pytest.raises(KnowledgeUnreachable, match=r"the disk of .*knowledge is full, make room"):
        async with run_server(silent, state):
            pass


def test_a_server_that_is_not_for_us_is_not_taken_for_none(tmp_path: Path) -> None:
    """`transhume status` would say that no daemon runs, to whoever isn't its user."""
    (tmp_path / "knowledge").mkdir(mode=0)
    tmp_path.chmod(0o755)
    us = os.geteuid()
    os.seteuid(us or NOBODY)
    try:
        with pytest.raises(UsageError, match="ask as the user that the daemon runs as"):
            find_server(None, tmp_path)
    finally:
        os.seteuid(us)
