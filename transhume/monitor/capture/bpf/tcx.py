"""Attaching the program by tcx, which kernels have from 6.6 on.

A link is a file descriptor: when it is closed, or its process dies, however it dies, the interface is as it was
before. So there is nothing to tidy up.
"""

import os
from collections.abc import Sequence

from transhume.monitor.capture.bpf import syscalls
from transhume.monitor.capture.bpf.syscalls import Direction


class TcxAttachment:
    """A program at an interface of the calling thread's network namespace, until closed.

    Raises:
        OSError: the kernel doesn't know tcx, or there is no such interface (any more).
    """

    def __init__(self, program: int, interface: int, directions: Sequence[Direction]) -> None:
        self._links: list[int] = []
        try:
            for direction in directions:
                self._links.append(syscalls.link_tcx(program, interface, direction))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Detach."""
        while self._links:
            os.close(self._links.pop())
