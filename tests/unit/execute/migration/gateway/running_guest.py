"""A process that looks like a hypervisor from outside: memory in a memory file, and images that it has open.

Run as a script: `python -m … MEMORY IMAGE BASE LOG` holds them until its standard input ends.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_guest(memory: Path, image: Path, base: Path, log: Path) -> Iterator[int]:
    """Have such a process with the content of a file as its memory; give its number."""
    command = [sys.executable, __file__, *map(str, (memory, image, base, log))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        yield process.pid
        process.communicate()


def _hold(memory: str, image: str, base: str, log: str) -> None:
    kept = os.memfd_create("pc.ram")
    os.write(kept, Path(memory).read_bytes())
    opened = [
        os.open(image, os.O_RDWR),
        os.open(image, os.O_RDWR),
        os.open(base, os.O_RDONLY),
        os.open(log, os.O_WRONLY),
    ]
    print("runs", flush=True)
    sys.stdin.read()
    for number in (kept, *opened):
        os.close(number)


if __name__ == "__main__":
    _hold(*sys.argv[1:])
