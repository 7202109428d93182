"""Programs of the lab that outlive whoever started them; `leftovers` ends them."""

import subprocess
from collections.abc import Sequence
from pathlib import Path


def start_detached(words: Sequence[str], log: Path) -> int:
    """Start a program that appends what it says to a log; return its process number."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # Nobody waits for it, and nobody is to be warned of that.
    process.returncode = 0
    return process.pid
