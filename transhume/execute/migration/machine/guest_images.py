"""A running guest's own disk images, read from outside while it runs: blocks as they are at that moment.

What its hypervisor has open to read and write is the guest's own; what it only reads is a base image, which a
site indexes by itself. Blocks stand in raw and qcow2 files as the guest sees them; where an image is compressed
or encrypted, what is read is content that nobody will refer to.
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from transhume.execute.migration.machine.guest_memory import Stretch

_LEAST_BYTES = 1 << 20
"""A smaller file is none that is worth while."""
_FLAGS = re.compile(r"flags:\s*([0-7]+)")


def find_images(pid: int) -> tuple[Stretch, ...]:
    """Say which images a hypervisor writes to; each once.

    Raises:
        OSError: there is no such process, or it can't be looked at.
    """
    found: dict[tuple[int, int], Stretch] = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            about = path.stat()
            named = not str(path.readlink()).startswith("/memfd:")
            is_file = stat.S_ISREG(about.st_mode) and about.st_size >= _LEAST_BYTES
            if is_file and named and _is_read_and_written(pid, path.name):
                key = about.st_dev, about.st_ino
                found.setdefault(key, Stretch(path, 0, about.st_size))
    return tuple(found.values())


def _is_read_and_written(pid: int, number: str) -> bool:
    told = _FLAGS.search(Path(f"/proc/{pid}/fdinfo/{number}").read_text("ascii"))
    return told is not None and int(told[1], 8) & os.O_ACCMODE == os.O_RDWR
