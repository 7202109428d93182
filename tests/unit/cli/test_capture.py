"""`transhume capture`: what it is told, and what it is refused; listening itself is `tests/system`'s."""

import asyncio
import json
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from transhume.cli import group
from transhume.daemon import senses
from transhume.daemon.senses import Sense
from transhume.errors import UsageError
from transhume.knowledge.store import Store

log = structlog.get_logger()


def run(folder: Path, capture: str, *words: str) -> Result:
    config = folder / "transhume.yaml"
    config.write_text(f"clouds: {{home: {{hosts: {{h1: {{capture: {capture}}}}}}}}}\n")
    return CliRunner().invoke(group, ["capture", "h1", "--config", str(config), *words])


def test_the_log_is_json_where_that_is_asked_for(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hear(sense: Sense, store: Store) -> None:
        log.info("heard", sense=sense.name)

    monkeypatch.setattr(senses, "keep_alive", hear)
    told = run(tmp_path, "{remote: true}", "--log-json", "--url", url)
    assert told.exception is None
    assert json.loads(told.stderr)["sense"] == "traffic at h1"


def test_a_host_that_the_daemon_listens_at_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What two of them hear of one interface adds up, and traffic would seem to be twice what it is."""

    async def hear(sense: Sense, store: Store) -> None:
        raise AssertionError("it listens")

    monkeypatch.setattr(senses, "keep_alive", hear)
    for capture in ("{}", "{remote: false}"):
        told = run(tmp_path, capture, "--url", url).exception
        assert isinstance(told, UsageError)
        assert "`remote: true`" in str(told)


LISTENS = """
import asyncio
from transhume.cli import main
from transhume.daemon import senses

async def hear(sense, store):
    print("listens", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("has let go", flush=True)

senses.keep_alive = hear
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda each: each.name)
async def test_it_lets_go_of_the_interfaces_when_it_is_told_to_end(
    url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """A filter of clsact's stays where it is when the process is killed, and counts on for nobody."""
    config = tmp_path / "transhume.yaml"
    config.write_text("clouds: {home: {hosts: {h1: {capture: {remote: true}}}}}\n")
    words = ["-c", LISTENS, "capture", "h1", "--config", str(config), "--url", url]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=-1)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"listens\n"
            process.send_signal(number)
            said, _ = await process.communicate()
        assert (process.returncode, said) == (0, b"has let go\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


IMPATIENT = """
from transhume.cli import capture, main

capture.ENDING_SECONDS = 0
main()
"""


def test_a_second_one_for_the_same_host_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = [sys.executable, "-c", IMPATIENT, "capture", "h1", "--url", url]

    async def hear(sense: Sense, store: Store) -> None:
        said = await asyncio.create_subprocess_exec(
            *other, "--config", str(tmp_path / "transhume.yaml"), stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(30):
                _, err = await said.communicate()
        finally:
            if said.returncode is None:
                said.kill()
                await said.wait()
        log.info("refused", status=said.returncode, why=err.decode())

    monkeypatch.setattr(senses, "keep_alive", hear)
    told = run(tmp_path, "{remote: true, interfaces: [none]}", "--log-json", "--url", url)
    assert told.exception is None
    refused = json.loads(told.stderr)
    assert refused["status"] == 2
    assert "another `transhume capture h1` runs here" in refused["why"]


def test_one_waits_for_the_one_before_it_that_still_ends(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hear(sense: Sense, store: Store) -> None:
        log.info("heard")

    monkeypatch.setattr(senses, "keep_alive", hear)
    before = socket.socket(socket.AF_UNIX)
    before.bind(b"\0transhume-capture-h1")
    ending = threading.Timer(0.3, before.close)
    ending.start()
    told = run(tmp_path, "{remote: true}", "--log-json", "--url", url)
    ending.join()
    assert told.exception is None
    assert json.loads(told.stderr)["event"] == "heard"
