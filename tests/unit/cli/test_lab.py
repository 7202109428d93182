"""`transhume lab`, as far as it goes without a lab."""

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from transhume.cli.lab import command
from transhume.errors import LabError, UsageError


def invoke(*words):
    return CliRunner().invoke(command, words)


@pytest.mark.parametrize("name", ["", "up", "status", "exec", "down"])
def test_help_shows_examples(name):
    found = invoke(*filter(None, [name]), "--help")

    assert found.exit_code == 0
    assert "Examples:\n    transhume lab" in found.output


@pytest.mark.parametrize("words", [["status"], ["exec", "vm1", "uptime"]], ids=" ".join)
def test_without_a_lab_the_remedy_is_named(tmp_path, words):
    found = invoke("--state", str(tmp_path / "none"), *words)

    assert isinstance(found.exception, LabError)
    assert "`transhume lab up` makes one" in str(found.exception)


def test_the_state_is_meant_from_where_one_is(tmp_path, monkeypatch):
    """Its processes are known by their paths, and work in other folders."""
    monkeypatch.chdir(tmp_path)
    found = invoke("--state", "lab", "status")

    assert f"no lab in {tmp_path / 'lab'};" in str(found.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["--wan", "100"], "--wan: 100 has no unit", id="rate-without-unit"),
        pytest.param(["--delay", "20"], "--delay: 20 ", id="delay-without-unit"),
        pytest.param(["--memory", "8192"], "8192 MiB of memory", id="too-much-memory"),
        pytest.param(["--place", "vm1"], "vm1 doesn't say where", id="place-without-cloud"),
        pytest.param(["--place", "vm1=z"], "can't place vm1 in cloud z", id="unknown-cloud"),
        pytest.param(["--clusters", "9"], "9 clusters", id="too-many-clusters"),
    ],
)
def test_what_makes_no_lab_is_refused_before_anything_is_built(tmp_path, words, message):
    found = invoke("--state", str(tmp_path / "none"), "up", *words)

    assert isinstance(found.exception, UsageError)
    assert message in str(found.exception)


UP = """
import sys
from transhume.cli import main
from transhume.lab import lab as labs

def up(*_):
    print("building", flush=True)
    sys.stdin.read()

def down(*_):
    print("taking down", flush=True)
    sys.stdin.readline()
    print("taken down", flush=True)

labs.Lab.up = up
labs.Lab.down = down
main()
"""


@contextmanager
def building():
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", UP, "lab", "up"], stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout.readline() == b"building\n"
        yield process


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name
)
def test_a_lab_whose_building_is_broken_off_is_taken_down(number):
    """Also where that is a time limit's doing, or a terminal's that is closed."""
    with building() as process:
        process.send_signal(number)
        said, complained = process.communicate()
    assert said == b"taking down\ntaken down\n"
    assert b"Traceback" not in complained
    assert process.returncode == -number


STATUS = """
from ctypes import CDLL, create_string_buffer
from transhume.cli import main
from transhume.lab import lab as labs

def status(_):
    print("asks", flush=True)
    mutex = create_string_buffer(64)
    while True:
        CDLL(None).pthread_mutex_lock(mutex)

labs.Lab.status = status
main()
"""


def test_who_asks_a_libvirt_that_hangs_can_be_ended():
    """It waits in a call in which Python takes no notice of signals."""
    with subprocess.Popen(
        [sys.executable, "-c", STATUS, "lab", "status"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"asks\n"
        while not Path(f"/proc/{process.pid}/wchan").read_text().startswith("futex"):
            time.sleep(0.01)
        process.terminate()
        try:
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()


def test_a_lab_is_taken_down_though_a_closed_terminal_says_so_twice():
    """Its shell hangs up on what it runs, and the kernel does when the shell ends."""
    with building() as process:
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == b"taking down\n"
        process.send_signal(signal.SIGHUP)
        assert process.communicate()[0] == b"taken down\n"
    assert process.returncode == -signal.SIGHUP
