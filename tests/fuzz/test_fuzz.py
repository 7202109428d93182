"""A short run of each fuzzer, the same each time; `make fuzz` is the long one."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("fuzzer", ["capture", "stream"])
def test_nothing_falls_whatever_bytes_it_is_fed(fuzzer: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"tests.fuzz.{fuzzer}", "--runs", "6000", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Done 6000 runs" in done.stderr
