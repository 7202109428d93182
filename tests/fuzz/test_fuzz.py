"""A short run of the fuzzer, the same each time; `make fuzz` is the long one."""

import subprocess
import sys


def test_the_scanner_stands_whatever_bytes_it_is_fed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.capture", "--runs", "6000", "--seed", "7"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Done 6000 runs" in done.stderr
