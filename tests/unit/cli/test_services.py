"""Services as operators run and end them: each is a process of its own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.execute.migration.gateway.relayed_host import write_host
from tests.unit.execute.migration.gateway.two_sites import LIFETIME, free_port, site, write_site
from transhume.errors import UsageError
from transhume.execute.migration.control_client import GatewayAddress, GatewayClient
from transhume.execute.migration.machine.sockets import is_listening
from transhume.execute.migration.relaying.configuration import load_relay
from transhume.execute.migration.relaying.relay import alone_at
from transhume.execute.migration.trust import Peer, PeerKind, load_authority, load_identity
from transhume.execute.migration.trust.calling import call

PATIENCE_SECONDS = 60.0
OVERLAY = """
clouds: {a: {overlay: {bridge: br0, underlay: wan0, vtep: 192.0.2.1}}}
overlay: {vni: 66, agents: true}
knowledge: {state_dir: state}
"""

by_signals = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name
)


async def ended(
    number: signal.Signals,
    words: list[str],
    *,
    after: str,
    meanwhile: Callable[[], Awaitable[asyncio.StreamWriter]] | None = None,
) -> list[str]:
    """Run a service, send it a signal after an event, and return its events once it has ended well.

    It tells nothing else, no traceback. `meanwhile` makes a connection that lasts until then.
    """
    connection = None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transhume", *words, "--log-json"), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    events: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in process.stderr:
                events.append(json.loads(line)["event"])
                if events[-1] == after:
                    connection = await meanwhile() if meanwhile else None
                    process.send_signal(number)
            assert await process.wait() == 0
    finally:
        if connection is not None:
            connection.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert after in events
    return events


@by_signals
async def test_a_gateway_ends_and_leaves_no_socket(tmp_path: Path, number: signal.Signals) -> None:
    config = write_site(tmp_path, "a", {"a": free_port()})
    words = ["gateway", "--config", str(config)]
    events = await ended(number, words, after="gateway_started")
    assert events[-1] == "gateway_stopped"
    assert not (config.parent / "control.sock").exists()


@pytest.mark.parametrize("log", ["full", "closed"])
async def test_a_gateway_works_though_its_log_cant_be_written(tmp_path: Path, log: str) -> None:
    """A disk that the log has filled, or a pipe whose reader is gone, must cost no migration."""
    config = write_site(tmp_path, "a", {"a": free_port()})
    reading, closed = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transhume", "gateway", "--config", str(config)),
        stderr=full if log == "full" else closed,
    )
    os.close(full)
    os.close(closed)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_listening(config.parent / "control.sock"):
                assert process.returncode is None
                await asyncio.sleep(0.05)
            address = GatewayAddress(site="a", socket=config.parent / "control.sock")
            assert (await GatewayClient(address).ask("status"))["site"] == "a"
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


INDEXES = """
import time
from transhume.cli import main
from transhume.execute.migration.gateway import gateway

def index_image(path):
    print("indexes", flush=True)
    time.sleep(3600)

gateway.index_image = index_image
main()
"""


@by_signals
async def test_a_gateway_ends_though_it_has_a_large_image_to_read(
    tmp_path: Path, number: signal.Signals
) -> None:
    config = write_site(tmp_path, "a", {"a": free_port()}, images=[{"path": "large.img"}])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", INDEXES, "gateway", "--config", str(config)), stdout=-1
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.stdout.readline() == b"indexes\n"
            process.send_signal(number)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_gateways_that_answer_are_shown_beside_one_that_does_not(tmp_path: Path) -> None:
    config = tmp_path / "transhume.yaml"
    config.write_text(
        "clouds: {a: {gateway: {socket: a/control.sock}}, b: {gateway: {socket: b/control.sock}}}\n"
    )
    async with site(write_site(tmp_path, "a", {"a": free_port()})):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "transhume", "store", "--json", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
    assert [status["site"] for status in json.loads(out)] == ["a"]
    assert process.returncode == 75
    assert "the gateway of b doesn't answer" in err.decode()


@by_signals
async def test_a_relay_ends_whether_its_gateway_is_there_or_not(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with site(write_site(tmp_path, "a", {"a": free_port()}, hosts=["a2"])) as here:
        words = ["relay", "--config", str(write_host(here, "a2"))]
        assert await ended(number, words, after="relay_calls") == ["relay_calls"]
    assert await ended(number, words, after="gateway_not_there") == ["gateway_not_there"]


IMPATIENT = """
from transhume.cli import main
from transhume.execute.migration.relaying import relay

relay.ENDING_SECONDS = 0
main()
"""


async def refused(words: list[str]) -> str:
    """Run a service that doesn't begin, and return what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPATIENT, *words), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == UsageError.exit_status
    return said.decode()


async def test_a_second_relay_of_a_host_is_refused(tmp_path: Path) -> None:
    """The gateway takes the newest for the host's, and each would come back two seconds later."""
    async with site(write_site(tmp_path, "a", {"a": free_port()}, hosts=["a2"])) as here:
        config = write_host(here, "a2")
        async with alone_at(load_relay(config).sockets):
            said = await refused(["relay", "--config", str(config)])
    assert "another relay serves the sockets in" in said


async def test_a_relay_waits_for_the_one_before_it_that_still_ends(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def run() -> None:
        async with alone_at(tmp_path):
            began.set()

    async with alone_at(tmp_path):
        next_one = asyncio.create_task(run())
        await asyncio.sleep(0.1)
        assert not began.is_set()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await next_one
    assert began.is_set()


async def test_a_relay_that_cant_have_its_sockets_says_so(tmp_path: Path) -> None:
    async with site(write_site(tmp_path, "a", {"a": free_port()}, hosts=["a2"])) as here:
        config = write_host(here, "a2", sockets={"folder": "file/sockets"})
        (config.parent / "file").touch()
        said = await refused(["relay", "--config", str(config)])
    assert "file/sockets can't be had" in said


@by_signals
async def test_a_gateway_ends_without_complaint_though_an_operator_is_connected(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    config = write_site(tmp_path, "a", {"a": port})
    operator, gateway = Peer(kind=PeerKind.OPERATOR, name="ada"), Peer(kind=PeerKind.SITE, name="a")
    load_authority(tmp_path / "ca").issue(
        operator, tmp_path / "ada", lifetime=LIFETIME, now=datetime.now(UTC)
    )
    identity = load_identity(tmp_path / "ada", kind=PeerKind.OPERATOR)

    async def connect() -> asyncio.StreamWriter:
        reader, writer = await call(identity, "127.0.0.1", port, gateway, limit_bytes=1 << 20)
        writer.write(b'{"do": "status"}\n')
        assert await reader.readline()
        return writer

    words = ["gateway", "--config", str(config)]
    events = await ended(number, words, after="gateway_started", meanwhile=connect)
    assert events == ["gateway_started", "gateway_stopped"]


@by_signals
async def test_an_agent_that_waits_for_the_knowledge_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    config = tmp_path / "transhume.yaml"
    config.write_text(OVERLAY)
    words = ["overlay", "agent", "--site", "a", "--config", str(config)]
    events = await ended(number, words, after="knowledge_awaited")
    assert events == ["knowledge_awaited", "agent_ended"]
